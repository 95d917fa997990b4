//! A site as a person sets it up: `grid-broker ca`, the broker with its settings, and mosquitto's clients over TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "../../agent/service/tests/program/mod.rs"]
mod program;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use program::{LONG, Running, lines};

fn spawn(folder: &Path, program: &str, arguments: &[&str]) -> Running {
    let mut command = program::command(program, folder, arguments);
    Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

fn ends_with(mut program: Running, what: &str) -> i32 {
    let start = Instant::now();
    while start.elapsed() < LONG {
        if let Some(status) = program.0.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{what} did not end");
}

fn find(lines: &Receiver<String>, part: &str) -> String {
    loop {
        let line = lines.recv_timeout(LONG).unwrap_or_else(|_| panic!("nobody said {part:?}"));
        if line.contains(part) {
            return line;
        }
    }
}

struct Site {
    folder: tempfile::TempDir,
    port: String,
    _broker: Running,
}

impl Site {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        ca(folder.path(), &["init", "--site", "demo", "--host", "localhost"]);
        for (name, role) in [("trafo-1", "transformer"), ("cp-1", "device"), ("cp-2", "device"), ("anna", "operator")] {
            ca(folder.path(), &["issue", name, "--role", role]);
        }
        let settings = "site = \"demo\"\n[listen]\nmqtts = \"127.0.0.1:0\"\n[tls]\ncertificate = \"ca/broker.pem\"\n\
                        key = \"ca/broker.key\"\n[access]\nauthority = \"ca/ca.pem\"\nrevocations = \"ca/revoked.json\"\n\
                        [[transformer]]\nname = \"trafo-1\"\n";
        fs::write(folder.path().join("broker.toml"), settings).unwrap();
        let program = env!("CARGO_BIN_EXE_grid-broker");
        let mut broker = spawn(folder.path(), program, &["run", "--config", "broker.toml"]);
        let log = lines(broker.0.stderr.take().unwrap());
        let port = find(&log, "listening on 127.0.0.1:").split("127.0.0.1:").nth(1).unwrap().to_owned();
        let port = port.split_whitespace().next().unwrap().to_owned();
        Self { folder, port, _broker: broker }
    }

    /// A client of mosquitto with this bundle.
    fn client(&self, program: &str, name: &str, more: &[&str]) -> Running {
        let bundle = format!("{name}.bundle");
        let connection =
            ["-h", "localhost", "-p", &self.port, "--cafile", "ca/ca.pem", "--cert", &bundle, "--key", &bundle];
        spawn(self.folder.path(), program, &[&connection, more].concat())
    }

    /// Publishes at QoS 1 and says whether that was allowed.
    fn publishes(&self, name: &str, id: &str, topic: &str) -> bool {
        let publisher = self.client("mosquitto_pub", name, &["-V", "5", "-i", id, "-q", "1", "-t", topic, "-m", "x"]);
        let mut publisher = publisher;
        let mut said = String::new();
        publisher.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        ends_with(publisher, "mosquitto_pub") == 0 && !said.contains("Not authorized")
    }
}

fn ca(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-broker"));
    let done = command.arg("ca").args(arguments).args(["--dir", "ca"]).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {done:?}");
}

#[test]
fn a_device_says_what_is_its_own_and_nothing_else_under_its_own_name_only() {
    let site = Site::start();
    assert!(site.publishes("cp-1", "cp-1", "grid/demo/cp-1/measurement"));
    assert!(!site.publishes("cp-1", "cp-1", "grid/demo/cp-2/measurement"));
    assert!(!site.publishes("cp-1", "cp-1", "grid/demo/cp-1/setpoint"));
    assert!(!site.publishes("cp-1", "cp-2", "grid/demo/cp-1/measurement"), "under the name of another");
    assert!(site.publishes("trafo-1", "trafo-1", "grid/demo/cp-1/setpoint"));
    assert!(site.publishes("anna", "whatever", "grid/demo/cp-1/set/charging"));
    assert!(!site.publishes("anna", "whatever", "grid/demo/cp-1/measurement"));
}

#[test]
fn who_is_revoked_is_cut_off_and_everybody_can_read_that_while_the_others_stay() {
    let site = Site::start();
    let mut watcher =
        site.client("mosquitto_sub", "anna", &["-v", "-t", "grid/demo/ca/revoked", "-t", "grid/+/+/event"]);
    let heard = lines(watcher.0.stdout.take().unwrap());
    assert!(!find(&heard, "grid/demo/ca/revoked").contains("cp-1"), "nobody is revoked yet");
    let revoked = site.client("mosquitto_sub", "cp-1", &["-V", "5", "-i", "cp-1", "-t", "grid/demo/cp-1/setpoint"]);
    let mut staying = site.client("mosquitto_sub", "cp-2", &["-V", "5", "-i", "cp-2", "-t", "grid/demo/cp-2/setpoint"]);
    let setpoints = lines(staying.0.stdout.take().unwrap());
    // Both are there when what is said to one of them arrives.
    while setpoints.try_recv().is_err() {
        assert!(site.publishes("trafo-1", "trafo-1", "grid/demo/cp-2/setpoint"));
    }

    ca(site.folder.path(), &["revoke", "cp-1"]);
    let published = find(&heard, "grid/demo/ca/revoked");
    assert!(published.contains("\"name\":\"cp-1\"") && published.contains("\"sig\":"), "{published}");
    ends_with(revoked, "the revoked client");
    assert!(!site.publishes("cp-1", "cp-1", "grid/demo/cp-1/event"), "it does not come in again");
    while setpoints.try_recv().is_ok() {}
    assert!(site.publishes("trafo-1", "trafo-1", "grid/demo/cp-2/setpoint"));
    setpoints.recv_timeout(LONG).expect("who was not revoked is still there");
}

//! `grid-broker setup` and `check` as a person and a script use them, below a folder of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use grid_broker::{Settings, Source};
use grid_protocol::identity::{Bundle, brokers_in};

const LONG: Duration = Duration::from_secs(30);
const BINARY: &str = env!("CARGO_BIN_EXE_grid-broker");
const PASSWORD: &str = "correct horse";

/// What a script says.
const SCRIPT: [&str; 10] = [
    "--site",
    "main-street",
    "--host",
    "broker.local",
    "--host",
    "localhost",
    "--operator",
    "anna",
    "--password-file",
    "password",
];

struct Done {
    code: Option<i32>,
    text: String,
}

impl Done {
    fn of(output: Output) -> Self {
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        Self { code: output.status.code(), text }
    }

    fn says(&self, code: i32, named: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.text);
        for named in named {
            assert!(self.text.contains(named), "{named:?} in {}", self.text);
        }
    }
}

/// A machine in a folder.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::write(machine.0.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        machine
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.0.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    fn does(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    fn setup(&self, arguments: &[&str]) -> Done {
        self.does(&[&["setup", "--root", "machine"], arguments].concat())
    }

    fn check(&self) -> Done {
        self.does(&["check", "--config", self.at("etc/grid/broker.toml").to_str().unwrap()])
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join("machine").join(path)
    }

    fn settings(&self) -> Settings {
        Source { config: Some(self.at("etc/grid/broker.toml")), ..Source::default() }.read().unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.at(path)).unwrap().permissions().mode() & 0o777
    }

    /// All that was written, with its content.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut folders = vec![self.at("")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push((path.clone(), fs::read(path).unwrap())) }
            }
        }
        files.sort();
        files
    }

    /// Where the files are of the settings, which name them as on the machine itself.
    fn paths(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("GRID__TLS__CERTIFICATE", self.at("etc/grid/broker.pem")),
            ("GRID__TLS__KEY", self.at("etc/grid/broker.key")),
            ("GRID__ACCESS__AUTHORITY", self.at("etc/grid/ca.pem")),
            ("GRID__ACCESS__REVOCATIONS", self.at("var/lib/grid/ca/revoked.json")),
        ]
    }
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_script_sets_a_site_up_and_nothing_changes_when_it_does_so_again() {
    let machine = Machine::new();
    machine.setup(&SCRIPT).says(
        0,
        &["grid-broker ca issue trafo-1 --role transformer", "grid-agent setup cp-1.bundle", "-h broker.local -p 8883"],
    );
    let settings = machine.settings();
    settings.check().unwrap();
    assert_eq!(settings.site.as_str(), "main-street");
    let [anna] = settings.user.as_slice() else { panic!("{settings:?}") };
    assert!(anna.name == "anna" && anna.password_hash.matches(PASSWORD.as_bytes()));
    assert!(settings.grant.is_empty(), "there is no Home Assistant");
    let text = fs::read_to_string(machine.at("etc/grid/broker.toml")).unwrap();
    assert!(text.contains("# Agents and anchor come here with their certificates"), "comments stay: {text}");

    assert_eq!(machine.mode("var/lib/grid/ca/ca.key") | machine.mode("etc/grid/broker.key"), 0o600);
    assert_eq!(machine.mode("etc/grid/broker.toml"), 0o600, "there is no group of the service");
    assert_eq!(machine.mode("var/lib/grid/ca/revoked.json"), 0o644);
    assert_eq!(machine.mode("var/lib/grid/ca"), 0o755);

    let before = machine.everything();
    machine.setup(&SCRIPT).says(0, &["unchanged"]);
    machine.setup(&[]).says(0, &["unchanged"]);
    assert!(machine.everything() == before, "nothing changes");
}

#[test]
fn without_a_terminal_what_has_no_default_is_named_and_a_password_is_made_up_and_shown_once() {
    let machine = Machine::new();
    machine.setup(&[]).says(2, &["--site"]);
    assert!(!machine.at("").exists(), "nothing was written");
    let done = machine.setup(&["--site", "demo", "--home-assistant"]);
    done.says(0, &["The password of operator is ", "The password of homeassistant is "]);
    let password = |user: &str| {
        let after = done.text.split(&format!("The password of {user} is ")).nth(1).unwrap();
        after.split(',').next().unwrap().to_owned()
    };
    let settings = machine.settings();
    for user in ["operator", "homeassistant"] {
        let there = settings.user.iter().find(|there| there.name == user).unwrap();
        assert!(there.password_hash.matches(password(user).as_bytes()));
    }
    let grants: Vec<_> = settings.grant.iter().map(|grant| grant.to.as_deref()).collect();
    assert_eq!(grants, [Some("homeassistant"), None, None], "Home Assistant's, and what agents may say to it");
    assert!(!machine.setup(&[]).text.contains("The password of"), "that was once");
}

#[test]
fn wrong_answers_are_named_and_nothing_is_written() {
    let machine = Machine::new();
    for (wrong, named) in [
        (vec!["--site", "Main Street"], "Main Street"),
        (vec!["--host", "a b"], "a b"),
        (vec!["--port", "70000"], "70000"),
        (vec!["--operator", "a/b"], "a/b"),
        (vec!["--operator", "homeassistant", "--home-assistant"], "homeassistant"),
        (vec!["--password-file", "nowhere"], "nowhere"),
        (vec!["--local-port", "8883"], "8883"),
        (vec!["--transformer", "T"], "T"),
        (vec!["--home-assistant-password-file", "password"], "--home-assistant"),
    ] {
        let site: &[&str] = if wrong[0] == "--site" { &[] } else { &["--site", "demo"] };
        machine.setup(&[site, &wrong].concat()).says(2, &[named]);
    }
    assert!(!machine.at("").exists());
}

#[test]
fn what_is_there_and_says_otherwise_stays_and_is_told() {
    let machine = Machine::new();
    machine.setup(&SCRIPT).says(0, &[]);
    let before = machine.everything();
    machine.setup(&["--site", "elsewhere"]).says(2, &["main-street", "elsewhere"]);
    fs::write(machine.0.path().join("other"), "another\n").unwrap();
    machine
        .setup(&["--port", "8899", "--operator", "bert", "--password-file", "other", "--transformer", "trafo-2"])
        .says(
            2,
            &[
                "the port of listen.mqtts is 8883, not 8899",
                "there is no [[user]] \"bert\"",
                "transformer is \"trafo-1\", not \"trafo-2\"",
                "Nothing was changed",
            ],
        );
    machine.setup(&["--password-file", "other"]).says(2, &["the password of anna is another"]);
    assert!(machine.everything() == before, "nothing changes");

    // A person's own settings stay, too.
    let config = machine.at("etc/grid/broker.toml");
    let own = fs::read_to_string(&config).unwrap() + "\n[[grant]]\nto = \"anna\"\npublish = [\"lamp/#\"]\n";
    fs::write(&config, &own).unwrap();
    machine.setup(&SCRIPT).says(0, &["unchanged"]);
    assert_eq!(fs::read_to_string(&config).unwrap(), own);

    fs::write(machine.at("etc/grid/ca.pem"), "another\n").unwrap();
    machine.setup(&SCRIPT).says(2, &["ca.pem is another authority's"]);
    fs::remove_dir_all(machine.at("var")).unwrap();
    machine.setup(&SCRIPT).says(2, &["ca.pem is another authority's"]);
    assert!(!machine.at("var").exists(), "no authority was made");
}

#[test]
fn other_hosts_get_the_broker_another_certificate_of_the_same_authority() {
    let machine = Machine::new();
    machine.setup(&SCRIPT).says(0, &[]);
    let authority = fs::read(machine.at("etc/grid/ca.pem")).unwrap();
    let certificate = fs::read(machine.at("etc/grid/broker.pem")).unwrap();
    machine.setup(&["--host", "192.0.2.7"]).says(0, &["for 192.0.2.7", "-h 192.0.2.7"]);
    assert_eq!(fs::read(machine.at("etc/grid/ca.pem")).unwrap(), authority);
    assert_ne!(fs::read(machine.at("etc/grid/broker.pem")).unwrap(), certificate);
    machine.setup(&[]).says(0, &["unchanged"]);
}

#[test]
fn a_bundle_says_where_the_broker_is() {
    let machine = Machine::new();
    machine.setup(&[&SCRIPT[..], &["--port", "8899"]].concat()).says(0, &[]);
    let ca = machine.at("var/lib/grid/ca");
    let issue = |name: &str, more: &[&str]| {
        let arguments = ["ca", "issue", name, "--role", "device", "--dir", ca.to_str().unwrap()];
        machine.does(&[&arguments, more].concat()).says(0, &[]);
        fs::read_to_string(machine.0.path().join(format!("{name}.bundle"))).unwrap()
    };
    let bundle = issue("cp-1", &[]);
    assert_eq!(brokers_in(&bundle), ["broker.local:8899".parse().unwrap()], "and not localhost: {bundle}");
    assert!(Bundle::read(bundle.as_bytes()).is_ok());
    assert_eq!(brokers_in(&issue("cp-2", &["--port", "1"])), ["broker.local:1".parse().unwrap()]);
}

/// Answers each question when it comes.
#[test]
fn a_person_is_asked_and_may_answer_wrongly_first() {
    let machine = Machine::new();
    let typescript = machine.0.path().join("typescript");
    let command = format!("{BINARY} setup --root machine");
    let script = ["--quiet", "--flush", "--return", "--command", &command, typescript.to_str().unwrap()];
    let mut script = Command::new("script")
        .args(script)
        .current_dir(machine.0.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("install util-linux");
    let (sender, said) = mpsc::channel();
    let mut output = script.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = std::io::Read::read(&mut output, &mut bytes) {
            let _ = sender.send(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
    });
    let mut input = script.stdin.take().unwrap();
    let mut program = Program(script);
    let mut unseen = String::new();
    let mut hears = |question: &str| {
        while !unseen.contains(question) {
            unseen += &said.recv_timeout(LONG).unwrap_or_else(|_| panic!("{question:?} is not asked: {unseen}"));
        }
        unseen = unseen.split_once(question).unwrap().1.to_owned();
    };
    for (question, answer) in [
        ("The site's name", "Main Street"),
        ("The site's name", "main-street"),
        ("Names and addresses", "broker.local, 192.0.2.7"),
        ("The port", ""),
        ("The transformer's name [trafo-1]", ""),
        ("The anchor's name [anchor-1]", ""),
        ("Who reads everything", "anna"),
        ("Password of anna", "one"),
        ("The same again", "two"),
        ("Password of anna", PASSWORD),
        ("The same again", PASSWORD),
        ("Home Assistant", "n"),
    ] {
        // The wrong name is told before it is asked for again.
        hears(question);
        input.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }
    hears("is set up");
    assert_eq!(program.0.wait().unwrap().code(), Some(0));
    let settings = machine.settings();
    assert_eq!((settings.site.as_str(), settings.user.len()), ("main-street", 1));
    assert!(settings.user[0].password_hash.matches(PASSWORD.as_bytes()));
}

/// The broker that a setup made, with its files below the folder and other ports.
fn start(machine: &Machine, addresses: &[(&str, SocketAddr)]) -> (Program, mpsc::Receiver<String>) {
    let mut command = machine.command(&["run", "--config", "machine/etc/grid/broker.toml"]);
    command.envs(machine.paths()).stderr(Stdio::piped());
    for (key, address) in addresses {
        command.env(format!("GRID__LISTEN__{key}"), address.to_string());
    }
    let mut broker = Program(command.spawn().unwrap());
    let log = BufReader::new(broker.0.stderr.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    (broker, lines)
}

fn check_with(machine: &Machine, addresses: &[(&str, SocketAddr)]) -> Done {
    let mut command = machine.command(&["check", "--config", "machine/etc/grid/broker.toml"]);
    command.envs(machine.paths());
    for (key, address) in addresses {
        command.env(format!("GRID__LISTEN__{key}"), address.to_string());
    }
    Done::of(command.output().unwrap())
}

/// Four free addresses, for as long as nobody else takes them.
fn free() -> Vec<(&'static str, SocketAddr)> {
    let listeners = ["MQTT", "MQTTS", "WSS", "HTTP"].map(|key| (key, TcpListener::bind("127.0.0.1:0").unwrap()));
    listeners.iter().map(|(key, listener)| (*key, listener.local_addr().unwrap())).collect()
}

#[test]
fn the_broker_serves_what_was_set_up_and_check_says_so() {
    let machine = Machine::new();
    machine.setup(&SCRIPT).says(0, &[]);
    let addresses = free();
    let mqtts = addresses[1].1;
    check_with(&machine, &addresses)
        .says(0, &["ok     settings", "broker.pem: for broker.local, localhost", "is free: the broker does not run"]);
    let (_broker, log) = start(&machine, &addresses);
    while !log.recv_timeout(LONG).expect("it listens").contains("HTTP: /healthz") {}
    check_with(&machine, &addresses).says(0, &["/healthz says ok", "answers with the certificate of the settings"]);

    let ca = machine.at("var/lib/grid/ca");
    let ca = ca.to_str().unwrap();
    machine.does(&["ca", "issue", "cp-1", "--role", "device", "--dir", ca]).says(0, &[]);
    let port = mqtts.port().to_string();
    let client = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(["-h", "localhost", "-p", &port]).args(arguments).current_dir(machine.0.path());
        Done::of(command.output().expect("install mosquitto-clients"))
    };
    let bundle = ["--cafile", "cp-1.bundle", "--cert", "cp-1.bundle", "--key", "cp-1.bundle", "-i", "cp-1"];
    let said = ["-q", "1", "-r", "-t", "grid/main-street/cp-1/status", "-m", "here"];
    client("mosquitto_pub", &[&bundle[..], &said].concat()).says(0, &[]);
    let anna =
        ["--cafile", "machine/etc/grid/ca.pem", "-u", "anna", "-P", PASSWORD, "-t", "grid/main-street/cp-1/status"];
    client("mosquitto_sub", &[&anna[..], &["-C", "1", "-W", "20"]].concat()).says(0, &["here"]);

    // A certificate that the running broker does not have yet.
    machine.setup(&["--host", "localhost"]).says(0, &[]);
    check_with(&machine, &addresses).says(1, &["WRONG  listen.mqtts", "another certificate"]);
}

#[test]
fn check_names_what_is_wrong_and_what_to_do() {
    let machine = Machine::new();
    machine.check().says(2, &["broker.toml"]);
    machine.setup(&SCRIPT).says(0, &[]);
    let addresses = free();
    let taken = TcpListener::bind(addresses[0].1).unwrap();
    let set_mode = |path: &str, mode| {
        fs::set_permissions(machine.at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode("etc/grid/broker.key", 0o644);
    set_mode("etc/grid/broker.toml", 0o644);
    set_mode("var/lib/grid/ca", 0o700);
    fs::write(machine.at("var/lib/grid/ca/revoked.json"), "{}").unwrap();
    check_with(&machine, &addresses).says(
        1,
        &[
            "WRONG  tls key         ",
            "chmod 600",
            "WRONG  settings        ",
            "chmod 640",
            "WRONG  revocations     ",
            "chmod 755",
            "WRONG  listen.mqtt     ",
            "is taken, and not by this broker",
        ],
    );
    drop(taken);
    set_mode("etc/grid/broker.key", 0o600);
    copy_certificate_of_another_site(&machine);
    check_with(&machine, &addresses).says(
        1,
        &["the site's authority did not issue it", "does not go with tls.certificate", "grid-broker ca issue-server"],
    );
    fs::write(machine.at("etc/grid/broker.toml"), "site = \"main-street\"\n[listen]\nmqtt = \"nowhere\"\n").unwrap();
    machine.check().says(2, &["nowhere"]);
}

fn copy_certificate_of_another_site(machine: &Machine) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ca");
    machine.does(&["ca", "init", "--site", "other", "--dir", dir.to_str().unwrap()]).says(0, &[]);
    let copy = |from: &Path, to: &str| fs::copy(from, machine.at(to)).unwrap();
    copy(&dir.join("broker.pem"), "etc/grid/broker.pem");
}

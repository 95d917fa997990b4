//! The program `grid-broker` as a person and a service manager see it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-broker"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command(arguments).output().unwrap();
    (status.code(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

#[test]
fn it_listens_and_ends_cleanly_when_told_to() {
    for signal in ["-INT", "-TERM"] {
        let mut program = Program(command(&["run", "--listen", "127.0.0.1:0"]).spawn().unwrap());
        let mut log = BufReader::new(program.0.stderr.take().unwrap()).lines();
        let ready = log.find(|line| line.as_ref().unwrap().contains("listening on 127.0.0.1:")).unwrap().unwrap();
        assert!(!ready.contains("rumqttd"), "{ready}");
        let pid = program.0.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let start = Instant::now();
        assert_eq!(program.0.wait().unwrap().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn it_does_not_listen_openly_for_the_network_unless_told_to() {
    let (code, text) = output(&["run", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("0.0.0.0:0") && text.contains("--open"), "{text}");
}

#[test]
fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = output(&["run", "--listen", &address]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
}

#[test]
fn help_has_an_example_and_says_what_open_means() {
    let (code, text) = output(&["run", "--help"]);
    assert_eq!(code, Some(0));
    // It is wrapped to the width of the terminal.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("grid-broker run --listen 127.0.0.1:1883"), "{text}");
    assert!(text.contains("anyone on the network"), "{text}");
    let (code, text) = output(&["run", "--listen", "nonsense"]);
    assert_eq!(code, Some(2), "{text}");
}

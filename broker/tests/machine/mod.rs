//! A machine in a folder that `grid-broker setup` sets up, and the broker on it.
#![allow(dead_code, reason = "each test file uses another part")]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use grid_broker::{Settings, Source};

use super::program::{self, Done, LONG, Running, lines};

pub const BINARY: &str = env!("CARGO_BIN_EXE_grid-broker");
pub const PASSWORD: &str = "correct horse";

/// What a script says.
pub const SCRIPT: [&str; 10] = [
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

/// A machine in a folder.
pub struct Machine(pub tempfile::TempDir);

impl Machine {
    pub fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::write(machine.0.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        machine
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        program::command(BINARY, self.0.path(), arguments)
    }

    pub fn does(&self, arguments: &[&str]) -> Done {
        Done::of(&mut self.command(arguments))
    }

    pub fn setup(&self, arguments: &[&str]) -> Done {
        self.does(&[&["setup", "--root", "machine"], arguments].concat())
    }

    pub fn check(&self) -> Done {
        self.does(&["check", "--config", self.at("etc/grid/broker.toml").to_str().unwrap()])
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.0.path().join("machine").join(path)
    }

    pub fn settings(&self) -> Settings {
        Source { config: Some(self.at("etc/grid/broker.toml")), ..Source::default() }.read().unwrap()
    }

    pub fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.at(path)).unwrap().permissions().mode() & 0o777
    }

    /// All that was written, with its content.
    pub fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
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
    pub fn paths(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("GRID__TLS__CERTIFICATE", self.at("etc/grid/broker.pem")),
            ("GRID__TLS__KEY", self.at("etc/grid/broker.key")),
            ("GRID__ACCESS__AUTHORITY", self.at("etc/grid/ca.pem")),
            ("GRID__ACCESS__REVOCATIONS", self.at("var/lib/grid/ca/revoked.json")),
        ]
    }

    /// A command with the settings that setup made, its files below the folder and other ports.
    fn with_settings(&self, command: &str, addresses: &Addresses) -> Command {
        let mut command = self.command(&[command, "--config", "machine/etc/grid/broker.toml"]);
        command.envs(self.paths());
        for (key, address) in addresses {
            command.env(format!("GRID__LISTEN__{key}"), address.to_string());
        }
        command
    }

    /// The broker that setup made, once it serves.
    pub fn start(&self, addresses: &Addresses) -> Running {
        let mut broker = Running(self.with_settings("run", addresses).stderr(Stdio::piped()).spawn().unwrap());
        let log = lines(broker.0.stderr.take().unwrap());
        while !log.recv_timeout(LONG).expect("it listens").contains("HTTP: /healthz") {}
        broker
    }

    pub fn check_with(&self, addresses: &Addresses) -> Done {
        Done::of(&mut self.with_settings("check", addresses))
    }

    /// A bundle for this name, in the folder.
    pub fn issue(&self, name: &str, role: &str) {
        let ca = self.at("var/lib/grid/ca");
        self.does(&["ca", "issue", name, "--role", role, "--dir", ca.to_str().unwrap()]).says(0, &[]);
    }

    /// A client of mosquitto, over TLS.
    pub fn client(&self, program: &str, port: u16, arguments: &[&str]) -> Command {
        let mut command = program::command(program, self.0.path(), &["-h", "localhost", "-p", &port.to_string()]);
        command.args(arguments);
        command
    }
}

pub type Addresses = Vec<(&'static str, SocketAddr)>;

/// Four free addresses, for as long as nobody else takes them.
pub fn free() -> Addresses {
    let listeners = ["MQTT", "MQTTS", "WSS", "HTTP"].map(|key| (key, TcpListener::bind("127.0.0.1:0").unwrap()));
    listeners.iter().map(|(key, listener)| (*key, listener.local_addr().unwrap())).collect()
}

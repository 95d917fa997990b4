//! A real mosquitto on free loopback ports, for as long as a test needs it.
#![allow(dead_code, reason = "each test file uses another part")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Lines of its log that a failed test shows.
const LAST_WORDS: usize = 40;

/// A running mosquitto; killed if the test ends first.
pub struct ForeignBroker {
    process: Child,
    /// Where its configuration is, and what it logs.
    folder: PathBuf,
}

impl ForeignBroker {
    /// Starts it with this configuration, in a folder that outlives it, and waits until it listens at `address`.
    pub fn start(folder: &Path, configuration: &str, address: SocketAddr) -> Self {
        // As root it would become a user that cannot write into a temporary folder; others do not look at the line.
        std::fs::write(folder.join("mosquitto.conf"), format!("{configuration}\nuser root\n")).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("mosquitto.log")).unwrap();
        let process = Command::new(program())
            .args(["-v", "-c", "mosquitto.conf"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("mosquitto: {error}; install mosquitto"));
        let mut broker = Self { process, folder: folder.to_owned() };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = broker.process.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "mosquitto does not listen:\n{}", broker.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        broker
    }

    /// Stops it as a service manager does, so that it writes what it has to remember.
    pub fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let start = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "mosquitto does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("mosquitto.log")).unwrap()
    }
}

impl Drop for ForeignBroker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.join("mosquitto.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(LAST_WORDS).collect();
            println!("mosquitto's last words, newest first:\n{}", last.join("\n"));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Debian keeps it where users do not look.
fn program() -> &'static str {
    if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" }
}

/// A loopback address whose port was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

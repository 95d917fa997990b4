//! A real mosquitto on the loopback address, ended with the test.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long it may take until it listens.
const START: Duration = Duration::from_secs(20);

pub struct Mosquitto {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Mosquitto {
    /// Starts one that lets everybody in.
    pub fn start() -> Self {
        Self::start_with("allow_anonymous true")
    }

    /// Starts one with one more line in its configuration.
    pub fn start_with(line: &str) -> Self {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let listener = format!("listener {} {}", address.port(), address.ip());
        std::fs::write(folder.path().join("conf"), format!("set_tcp_nodelay true\n{listener}\n{line}\n")).unwrap();
        Self { child: launch(&folder, address), address, folder }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it. What it retained is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, once it is killed.
    pub fn start_again(&mut self) {
        self.child = launch(&self.folder, self.address);
    }

    /// The topics below `grid/` of which it retains a message.
    pub fn retained(&self) -> Vec<String> {
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let mut looking = Command::new("mosquitto_sub");
        // It ends after a second, with a code that says so.
        looking.args(["-h", &host, "-p", &port, "-t", "grid/#", "-F", "%t", "--retained-only", "-W", "1"]);
        // A street may run on the same threads.
        let Output { stdout, .. } = tokio::task::block_in_place(|| looking.output()).unwrap();
        String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

fn launch(folder: &TempDir, address: SocketAddr) -> Child {
    let usual = Path::new("/usr/sbin/mosquitto");
    let program = if usual.exists() { usual } else { Path::new("mosquitto") };
    let log = File::create(folder.path().join("log")).unwrap();
    let mut child = Command::new(program)
        .arg("-c")
        .arg(folder.path().join("conf"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(child.try_wait().unwrap().is_none() && began.elapsed() < START, "mosquitto does not listen: {}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

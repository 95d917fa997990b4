//! A broker that others wrote, and agents on it.
#![allow(dead_code, reason = "each test file uses another part")]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use grid_agent::run::{Common, Credentials, OutboxSettings};
use grid_protocol::identity::{Identity, Issuer};
use grid_protocol::message::{Event, Measurement, Message, Role};
use grid_protocol::topic::Name;
use grid_protocol::units::Millis;
use grid_service::clock::unix_now;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

pub const SOON: Duration = Duration::from_secs(10);

/// A process that ends with the test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A mosquitto on a port of its own.
pub struct Broker {
    pub port: u16,
    pub folder: tempfile::TempDir,
    _process: Process,
}

impl Broker {
    pub fn start() -> Self {
        Self::with(|_| "allow_anonymous true\n".to_owned())
    }

    /// One that lets in whom these lines of its settings let in. Their files are in its folder.
    pub fn with(admission: impl FnOnce(&Path) -> String) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mosquitto.conf");
        std::fs::write(&file, format!("listener {port} 127.0.0.1\n{}", admission(folder.path()))).unwrap();
        let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let child = Command::new(program).arg("-c").arg(&file).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let _process = Process(child.unwrap());
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < SOON, "mosquitto does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Self { port, folder, _process }
    }

    pub fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1"]).args(arguments);
        command
    }

    /// Hears what is said from now on, as `mosquitto_sub` with these arguments prints it.
    pub fn listen(&self, arguments: &[&str]) -> Heard {
        let mut subscriber = self.client("mosquitto_sub", &["-t", "hello"]);
        let mut child = subscriber.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let heard = Heard { lines, _process: Process(child) };
        // Retained: until the subscription stands.
        assert!(self.client("mosquitto_pub", &["-t", "hello", "-m", "there", "-r"]).status().unwrap().success());
        heard.wait_for(|line| line.ends_with("there").then_some(()));
        heard
    }
}

/// What a real subscriber hears, line by line.
pub struct Heard {
    lines: Receiver<String>,
    _process: Process,
}

impl Heard {
    /// Waits until it hears what is wanted.
    pub fn wait_for<T>(&self, wanted: impl Fn(String) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        loop {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            if let Some(found) = wanted(line.unwrap()) {
                return found;
            }
        }
    }

    fn message<B: DeserializeOwned>(&self, wanted: impl Fn(&B) -> bool) -> B {
        self.wait_for(|line| {
            let message: Message<B> = serde_json::from_str(&line).ok()?;
            Some(message.body).filter(&wanted)
        })
    }

    pub fn measurement(&self, wanted: impl Fn(&Measurement) -> bool) -> Measurement {
        self.message(wanted)
    }

    pub fn event(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        self.message(wanted)
    }
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The authority of the site `demo`.
pub fn authority() -> Issuer {
    Issuer::create(&name("demo"), unix_now()).unwrap()
}

/// What an agent needs that speaks to a broker on this port.
pub fn common(issuer: &Issuer, agent: &str, role: Role, port: u16) -> Common {
    let key = SigningKey::from_bytes(&[3; 32]);
    let identity = Identity { site: name("demo"), role, name: name(agent), key: key.verifying_key() };
    let (certificate, _) = issuer.issue(&identity, unix_now()).unwrap();
    let (site, name, authority) = (identity.site, identity.name, issuer.authority());
    Common {
        credentials: Credentials { site, name, certificate, key, authority },
        broker: grid_service::broker::Broker::plain("127.0.0.1", port),
        anchor: "anchor-1".parse().unwrap(),
        replay_after: Millis(5000),
        outbox: OutboxSettings::in_memory(),
        simulation: None,
        probe: None,
        home_assistant: None,
    }
}

/// Something to run an agent on, which ends with it.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

//! An agent that describes itself to Home Assistant, on the broker as `grid-broker setup` makes it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod machine;
#[path = "../../agent/service/tests/program/mod.rs"]
mod program;

use std::fs;
use std::io::{self, Write};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use grid_agent::actuator::Advice;
use grid_agent::run::run_device;
use grid_agent::settings::{Agent, Settings};
use machine::{Machine, PASSWORD, SCRIPT, free};
use program::{Done, LONG, Running, lines};
use serde_json::Value;
use tokio::runtime::Runtime;

/// A site as `grid-broker setup` makes it with these flags, and its broker.
struct Site {
    machine: Machine,
    port: u16,
    _broker: Running,
}

impl Site {
    fn start(flags: &[&str]) -> Self {
        let machine = Machine::new();
        machine.setup(&[&SCRIPT[..], flags].concat()).says(0, &[]);
        let addresses = free();
        let _broker = machine.start(&addresses);
        Self { machine, port: addresses[1].1.port(), _broker }
    }

    fn as_user<'a>(user: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["--cafile", "machine/etc/grid/ca.pem", "-u", user, "-P", PASSWORD], more].concat()
    }

    /// What this user hears of these topics: whether it was kept by the broker, topic and payload.
    fn listen(&self, user: &str, topic: &str) -> (Running, Receiver<String>) {
        let arguments = Self::as_user(user, &["-q", "1", "-F", "%r %t %p", "-t", topic]);
        let mut client = self.machine.client("mosquitto_sub", self.port, &arguments);
        let mut client = client.stdout(Stdio::piped()).spawn().expect("install mosquitto-clients");
        let heard = lines(client.stdout.take().unwrap());
        (Running(client), heard)
    }

    fn says(&self, user: &str, topic: &str, payload: &str) {
        let arguments = Self::as_user(user, &["-q", "1", "-t", topic, "-m", payload]);
        Done::of(&mut self.machine.client("mosquitto_pub", self.port, &arguments)).says(0, &[]);
    }

    /// An agent with a section `[home_assistant]`, until this is dropped.
    fn agent(&self, name: &str) -> Runtime {
        self.machine.issue(name, "device");
        let folder = self.machine.0.path();
        let file = folder.join(format!("{name}.toml"));
        let settings = format!(
            "site = \"main-street\"\nname = \"{name}\"\n[broker]\nhost = \"localhost\"\nport = {}\ntls = true\n\
             [identity]\nbundle = \"{}\"\n[meter.none]\nbase_ma = [0]\n\
             [device]\ntransformer = \"trafo-1\"\nphases = [\"L1\"]\nmax_ma = 16000\nfailsafe_ma = 0\n[home_assistant]\n",
            self.port,
            folder.join(format!("{name}.bundle")).display()
        );
        fs::write(&file, settings).unwrap();
        let settings = Settings::load(&file).unwrap();
        let meter = settings.meter.meter(&settings.name, &settings.identity).unwrap();
        let Agent::Device(common, device) = settings.resolve().unwrap() else { panic!("a device") };
        let actuator = Box::new(Advice::new(device.capabilities.max_ma));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async { run_device(common, device, meter, actuator, std::future::pending()).await.unwrap() });
        runtime
    }
}

/// The agent's description of itself in a line that was heard, and whether the broker had kept it.
fn described(heard: &Receiver<String>, name: &str) -> (bool, Value) {
    let topic = format!(" homeassistant/device/main-street/{name}/config ");
    loop {
        let line = heard.recv_timeout(LONG).expect("it describes itself");
        if let Some((kept, payload)) = line.split_once(&topic) {
            return (kept == "1", serde_json::from_str(payload).unwrap());
        }
    }
}

/// What agents in this process log.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log() -> String {
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}

fn is_logged(client: &str, said: &str) {
    let began = Instant::now();
    while !log().lines().any(|line| line.contains(client) && line.contains(said)) {
        assert!(began.elapsed() < LONG, "{said:?} of {client} in {}", log());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_agent_describes_itself_at_its_birth_and_when_home_assistant_is_born_and_people_hear_it() {
    let site = Site::start(&["--home-assistant", "--home-assistant-password-file", "password"]);
    let _agent = site.agent("cp-1");
    let (_anna, heard_by_anna) = site.listen("anna", "#");
    let (kept_or_new, at_birth) = described(&heard_by_anna, "cp-1");
    let commands = &at_birth["cmps"]["charging"]["command_topic"];
    assert_eq!(commands, "grid/main-street/cp-1/set/charging", "{kept_or_new}");

    // Home Assistant comes later: it has the description from the broker, and says that it is born.
    let (_home_assistant, heard) = site.listen("homeassistant", "homeassistant/device/#");
    assert_eq!(described(&heard, "cp-1"), (true, at_birth.clone()));
    site.says("homeassistant", "homeassistant/status", "online");
    assert_eq!(described(&heard, "cp-1"), (false, at_birth));
    // And it may command.
    site.says("homeassistant", "grid/main-street/cp-1/set/charging", "OFF");
    loop {
        let line = heard_by_anna.recv_timeout(LONG).expect("it obeys");
        if line.contains("grid/main-street/cp-1/event") && line.contains("charging_changed") {
            assert!(line.contains("\"by\":\"homeassistant\""), "{line}");
            break;
        }
    }
}

#[test]
fn an_agent_that_may_not_describe_itself_names_the_grant_that_is_missing_and_goes_on() {
    tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init();
    let site = Site::start(&[]);
    let (_anna, heard) = site.listen("anna", "#");
    let _agent = site.agent("cp-2");
    is_logged("cp-2", "homeassistant/status");
    is_logged("cp-2", "homeassistant/device/main-street/cp-2/config");
    let said = log();
    assert!(said.lines().filter(|line| line.contains("cp-2")).any(|line| line.contains("[[grant]]")), "{said}");
    loop {
        let line = heard.recv_timeout(LONG).expect("it measures");
        assert!(!line.contains(" homeassistant/"), "{line}");
        if line.contains("grid/main-street/cp-2/measurement") {
            break;
        }
    }
}

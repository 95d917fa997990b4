//! Agents on an emulated kernel, and the site they belong to.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use grid_protocol::identity::Issuer;
use grid_protocol::message::Role;
use grid_service::clock::unix_now;

use crate::emulated::Kernel;
use crate::mosquitto::{Broker, Heard, Process, SOON};

/// 1 mA of the sensor, 0.1 mV over its shunt, is 15 mA of the grid: 6 A are 40 mV.
pub const INA219: &str = "[[meter.ina219]]\nscale = 15\n";
/// 6 A of the grid.
pub const SIX_AMPERES_UV: i64 = 40_000;
/// How long a lease lasts.
pub const TTL: Duration = Duration::from_millis(1_500);

/// Waits until something holds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Settings of a device on one phase. Its identity is nowhere, which is enough for all but `run`.
pub fn device(meter_and_actuator: &str) -> String {
    settings_of_device("/nowhere/cp-1.bundle", 1, meter_and_actuator, "phases = [\"L1\"]\nfailsafe_ma = 6000\n")
}

fn settings_of_device(bundle: &str, broker: u16, meter_and_actuator: &str, device: &str) -> String {
    let ttl = TTL.as_millis();
    format!(
        "site = \"demo\"\nname = \"cp-1\"\n[broker]\nport = {broker}\n[identity]\nbundle = {bundle:?}\n{meter_and_actuator}\n\
         [device]\ntransformer = \"trafo-1\"\nmax_ma = 16000\nmax_ttl_ms = {ttl}\n{device}"
    )
}

/// A kernel and a folder for settings.
pub struct Machine {
    pub kernel: Kernel,
    folder: tempfile::TempDir,
}

impl Machine {
    pub fn boot() -> Self {
        Self { kernel: Kernel::boot(), folder: tempfile::tempdir().unwrap() }
    }

    /// `grid-agent COMMAND --config FILE …`, with these settings.
    pub fn command(&self, command: &str, settings: &str, more: &[&str]) -> Command {
        let (mut file, path) = tempfile::NamedTempFile::new_in(&self.folder).unwrap().keep().unwrap();
        file.write_all(settings.as_bytes()).unwrap();
        let mut program = self.kernel.grid_agent(&[command, "--config", path.to_str().unwrap()]);
        program.args(more);
        program
    }

    /// Runs it to its end: its exit code, and all that it said.
    pub fn result(&self, command: &str, settings: &str, more: &[&str]) -> (i32, String) {
        said(self.command(command, settings, more).output().unwrap())
    }
}

/// The exit code and all that was said.
pub fn said(output: Output) -> (i32, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A machine on a site with a broker.
pub struct Site {
    pub machine: Machine,
    broker: Broker,
    issuer: Issuer,
}

impl Site {
    pub fn new() -> Self {
        let issuer = Issuer::create(&"demo".parse().unwrap(), unix_now()).unwrap();
        Self { machine: Machine::boot(), broker: Broker::start(), issuer }
    }

    pub fn kernel(&self) -> &Kernel {
        &self.machine.kernel
    }

    fn bundle(&self, name: &str, role: Role) -> PathBuf {
        let bundle = self.issuer.issue_bundle(name.parse().unwrap(), role, unix_now()).unwrap();
        let file = self.broker.folder.path().join(format!("{name}.bundle"));
        fs::write(&file, bundle.to_pem().unwrap()).unwrap();
        file
    }

    /// The settings of the device `cp-1`.
    pub fn device(&self, meter_and_actuator: &str, device: &str) -> String {
        let bundle = self.bundle("cp-1", Role::Device);
        // What has a disk to go to is not waited for at the end, when there is no anchor.
        let outbox = format!("[outbox]\ndir = {:?}\n", self.broker.folder.path().join("cp-1.outbox"));
        let meter_and_actuator = &(outbox + meter_and_actuator);
        settings_of_device(bundle.to_str().unwrap(), self.broker.port, meter_and_actuator, device)
    }

    /// Runs a transformer that leads `cp-1` on these phases.
    pub fn transformer(&self, meter: &str, phases: &str, contact: &str) -> Agent {
        self.run(&self.transformer_settings(meter, phases, contact))
    }

    /// Its settings.
    pub fn transformer_settings(&self, meter: &str, phases: &str, contact: &str) -> String {
        let (bundle, port, ttl) = (self.bundle("trafo-1", Role::Transformer), self.broker.port, TTL.as_millis());
        format!(
            "site = \"demo\"\nname = \"trafo-1\"\n[broker]\nport = {port}\n[identity]\nbundle = {bundle:?}\n{meter}\n\
             [transformer]\nlimit_w = 17250\nttl_ms = {ttl}\nmax_ttl_ms = {ttl}\n{contact}\n\
             [[transformer.device]]\nname = \"cp-1\"\nphases = {phases}\nfailsafe_ma = 6000\n"
        )
    }

    /// Runs an agent until it is dropped.
    pub fn run(&self, settings: &str) -> Agent {
        Agent(Process(self.machine.command("run", settings, &[]).stderr(Stdio::null()).spawn().unwrap()))
    }

    /// The same under the watchdog of systemd, which the test plays: the agent says `WATCHDOG=1` here while it is well.
    pub fn run_watched(&self, settings: &str, watchdog: Duration) -> (Agent, UnixDatagram) {
        let (mut command, notified) = self.watched(settings, watchdog);
        (Agent(Process(command.stderr(Stdio::null()).spawn().unwrap())), notified)
    }

    /// The same, before it runs.
    pub fn watched(&self, settings: &str, watchdog: Duration) -> (Command, UnixDatagram) {
        let socket = self.broker.folder.path().join("notify");
        let notified = UnixDatagram::bind(&socket).unwrap();
        // So long nothing may come before systemd ends it.
        notified.set_read_timeout(Some(watchdog)).unwrap();
        let mut command = self.machine.command("run", settings, &[]);
        command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        (command, notified)
    }

    /// Hears all that an agent tells and measures.
    pub fn hear(&self, name: &str) -> Heard {
        self.broker.listen(&["-t", &format!("grid/demo/{name}/event"), "-t", &format!("grid/demo/{name}/measurement")])
    }

    pub fn command(&self, device: &str, what: &str, value: &str) {
        let topic = format!("grid/demo/{device}/set/{what}");
        assert!(self.broker.client("mosquitto_pub", &["-t", &topic, "-m", value]).status().unwrap().success());
    }
}

/// Waits until the agent says that it lives.
pub fn is_fed(notified: &UnixDatagram) {
    let began = Instant::now();
    let mut said = [0; 256];
    while !notified.recv(&mut said).is_ok_and(|length| said[..length].starts_with(b"WATCHDOG=1")) {
        assert!(began.elapsed() < SOON, "the watchdog is not fed");
    }
}

/// Waits until the agent has said nothing for as long as the watchdog waits.
pub fn starves(notified: &UnixDatagram) {
    let began = Instant::now();
    while notified.recv(&mut [0; 256]).is_ok() {
        assert!(began.elapsed() < SOON, "the watchdog is fed on");
    }
}

/// A running agent, which is killed when this is dropped.
pub struct Agent(Process);

impl Agent {
    pub fn signal(&self, name: &str) {
        let Process(child) = &self.0;
        assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) -> ExitStatus {
        let Process(child) = &mut self.0;
        let began = Instant::now();
        loop {
            if let Some(status) = Child::try_wait(child).unwrap() {
                return status;
            }
            assert!(began.elapsed() < SOON, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

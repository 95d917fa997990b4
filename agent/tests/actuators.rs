//! Actuators as a person uses them: by the program, with files in the place of sysfs, and on a broker that others wrote.

#![allow(clippy::unwrap_used)]

mod mosquitto;
#[path = "../src/actuator/pwm_tree.rs"]
mod pwm_tree;

use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use grid_agent::actuator::Actuator;
use grid_agent::lease::Terms;
use grid_agent::meter::{NoMeter, NoMeterSettings};
use grid_agent::run::{DeviceSettings, TransformerSettings, run_device, run_transformer};
use grid_agent::settings::Settings;
use grid_agent::transformer::{Enrolment, Plan};
use grid_protocol::message::{Capabilities, DeviceKind, Phase, Role};
use grid_protocol::units::{MilliAmps, MilliVolts, Millis};
use grid_service::clock::boot_now;
use mosquitto::{Broker, Heard, SOON, authority, common, name, runtime};
use pwm_tree::Tree;

fn section(sysfs: &Tree) -> String {
    format!("[actuator.control_pilot]\nsysfs = {:?}\n", sysfs.root())
}

fn duty(sysfs: &Tree) -> String {
    let [_, duty, ..] = sysfs.says();
    duty
}

/// A charge point whose identity and chip are not there.
fn charge_point(folder: &Path, actuator: &str, failsafe_ma: i64) -> PathBuf {
    let file = folder.join("agent.toml");
    let settings = format!(
        r#"
site = "demo"
name = "cp-3"
[identity]
bundle = "/nowhere/cp-3.bundle"
[[meter.ina219]]
bus = "/dev/i2c-99"
scale = 15
{actuator}
[device]
transformer = "trafo-1"
phases = ["L1"]
max_ma = 16000
failsafe_ma = {failsafe_ma}
commands_file = {:?}
"#,
        folder.join("commands.json")
    );
    fs::write(&file, settings).unwrap();
    file
}

fn grid_agent(command: &str, config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_grid-agent")).args([command, "--config"]).arg(config).output().unwrap()
}

#[test]
fn safe_sets_the_failsafe_limit_without_identity_meter_or_broker() {
    let (folder, sysfs) = (tempfile::tempdir().unwrap(), Tree::new(true));
    let config = charge_point(folder.path(), &section(&sysfs), 6_000);
    let output = grid_agent("safe", &config);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "cp-3: the safe state is set, 6000 mA per phase\n");
    assert_eq!(duty(&sysfs), "100000");
}

#[test]
fn a_device_that_is_switched_off_is_safe_when_it_is_off() {
    let (folder, sysfs) = (tempfile::tempdir().unwrap(), Tree::new(true));
    let config = charge_point(folder.path(), &section(&sysfs), 6_000);
    fs::write(folder.path().join("commands.json"), "{\"charging\":false}").unwrap();
    assert_eq!(grid_agent("safe", &config).status.code(), Some(0));
    assert_eq!(duty(&sysfs), "1000000");
}

#[test]
fn safe_says_what_is_in_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let output = grid_agent("safe", &charge_point(folder.path(), "[actuator.control_pilot]\nsysfs = \"/nowhere\"", 0));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not in its safe state") && said.contains("dtoverlay=pwm"), "{said}");

    let output = grid_agent("safe", &charge_point(folder.path(), "[actuator.relay]\nline = \"red\"", 0));
    assert_eq!(output.status.code(), Some(2), "{output:?}");

    let output = grid_agent("safe", &charge_point(folder.path(), "", 0));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("no actuator"));
}

#[test]
fn the_safe_state_is_set_before_anything_that_may_fail() {
    let (folder, sysfs) = (tempfile::tempdir().unwrap(), Tree::new(true));
    let output = grid_agent("run", &charge_point(folder.path(), &section(&sysfs), 6_000));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(duty(&sysfs), "100000");
}

#[test]
fn a_pilot_goes_to_failsafe_at_the_end_of_the_lease_while_control_hangs() {
    let (folder, sysfs) = (tempfile::tempdir().unwrap(), Tree::new(true));
    let settings = Settings::load(&charge_point(folder.path(), &section(&sysfs), 6_000)).unwrap();
    let mut pilot = settings.guarded_actuator().unwrap().unwrap();
    pilot.set(MilliAmps(16_000), Some(boot_now() + Millis(300))).unwrap();
    assert_eq!(duty(&sysfs), "266666");
    until_duty(&sysfs, "100000");
}

/// Waits until the pilot says this.
fn until_duty(sysfs: &Tree, wanted: &str) {
    let began = Instant::now();
    while duty(sysfs) != wanted {
        assert!(began.elapsed() < SOON, "{} instead of {wanted}", duty(sysfs));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_pilot_follows_the_leases_of_a_transformer_says_who_meddles_with_it_and_is_safe_without_them() {
    let (broker, sysfs, issuer) = (Broker::start(), Tree::new(true), authority());
    let pilot =
        Settings::load(&charge_point(broker.folder.path(), &section(&sysfs), 6_000)).unwrap().guarded_actuator();
    let constant = |amount| NoMeterSettings { base_ma: vec![MilliAmps(0); amount], nominal_mv: MilliVolts(230_000) };
    let can = Capabilities::any_current(DeviceKind::Ev, vec![Phase::L1], MilliAmps(6_000), MilliAmps(16_000));
    let device = DeviceSettings {
        transformer: name("trafo-1"),
        capabilities: Capabilities { failsafe_ma: MilliAmps(6_000), ..can },
        max_ttl: Millis(3_000),
        commands_file: None,
    };
    let (device_on, transformer_on) = (runtime(), runtime());
    let common_of = |agent, role| common(&issuer, agent, role, broker.port);
    let (meter, pilot) = (Box::new(NoMeter::new(constant(1))), pilot.unwrap().unwrap());
    let running = run_device(common_of("cp-3", Role::Device), device, meter, pilot, pending());
    device_on.spawn(async { running.await.unwrap() });
    until_duty(&sysfs, "100000");

    let enrolled = Enrolment { name: name("cp-3"), phases: vec![Phase::L1], failsafe_ma: MilliAmps(6_000), fuse: None };
    let terms = Terms { ttl: Millis(3_000), max_ttl: Millis(3_000) };
    let settings = TransformerSettings::new(Plan::new(40_000, terms, vec![enrolled]));
    let meter = Box::new(NoMeter::new(constant(3)));
    let leading = run_transformer(common_of("trafo-1", Role::Transformer), settings, meter, pending());
    transformer_on.spawn(async { leading.await.unwrap() });
    until_duty(&sysfs, "266666");

    let heard = broker.listen(&["-t", "grid/demo/cp-3/event"]);
    fs::write(sysfs.chip().join("pwm0/enable"), "0").unwrap();
    let told = heard.wait_for(|line| line.contains("actuator_failed").then_some(line));
    assert!(told.contains("enable 0"), "{told}");
    until_duty(&sysfs, "266666");
    assert_eq!(fs::read_to_string(sysfs.chip().join("pwm0/enable")).unwrap(), "1");

    drop(transformer_on);
    until_duty(&sysfs, "100000");
}

/// What a charger hears.
struct Charger<'a> {
    broker: &'a Broker,
    heard: Heard,
}

impl<'a> Charger<'a> {
    fn at(broker: &'a Broker) -> Self {
        Self { broker, heard: broker.listen(&["-t", "wb/#", "-v"]) }
    }

    /// Says it, retained, so that whoever comes later knows.
    fn says(&self, topic: &str, payload: &str) {
        let mut publish = self.broker.client("mosquitto_pub", &["-t", topic, "-m", payload, "-r"]);
        assert!(publish.status().unwrap().success());
    }

    /// Waits until it hears this.
    fn hears(&self, wanted: &str) {
        self.heard.wait_for(|line| (line == wanted).then_some(()));
    }
}

fn wallbox(port: u16) -> String {
    format!(
        r#"
[actuator.mqtt]
topic = "wb/limit"
payload = '{{"amps":{{{{amps}}}}}}'
off_topic = "wb/enable"
off_payload = "0"
repeat_ms = 300
change_time_ms = 500
charger_fallback_ms = 3000
[actuator.mqtt.read_back]
topic = "wb/state"
pointer = "/amps"
[actuator.mqtt.broker]
port = {port}
"#
    )
}

fn guarded(config: &Path) -> Box<dyn Actuator> {
    Settings::load(config).unwrap().guarded_actuator().unwrap().unwrap()
}

#[test]
fn a_charger_is_told_its_limit_again_and_again_and_the_failsafe_limit_when_the_lease_ends() {
    let broker = Broker::start();
    let charger = Charger::at(&broker);
    charger.says("wb/state", "{\"amps\":6}");
    let mut actuator = guarded(&charge_point(broker.folder.path(), &wallbox(broker.port), 0));
    assert_eq!(actuator.change_time(), Millis(3_000), "leases end before it falls back by itself");
    charger.hears("wb/enable 0");
    actuator.set(MilliAmps(13_500), Some(boot_now() + Millis(1_000))).unwrap();
    charger.hears("wb/limit {\"amps\":13.5}");
    charger.hears("wb/limit {\"amps\":13.5}");
    charger.hears("wb/enable 0");
    assert_eq!(actuator.demand(), Ok(MilliAmps(16_000)));
}

#[test]
fn a_charger_that_does_not_follow_is_a_failure_until_it_does() {
    let broker = Broker::start();
    let charger = Charger::at(&broker);
    charger.says("wb/state", "{\"amps\":16}");
    let mut actuator = guarded(&charge_point(broker.folder.path(), &wallbox(broker.port), 0));
    actuator.set(MilliAmps(8_000), Some(boot_now() + Millis(60_000))).unwrap();
    let wait_for = |actuator: &mut Box<dyn Actuator>, failing: bool| {
        let began = Instant::now();
        loop {
            let demand = actuator.demand();
            if demand.is_err() == failing {
                return demand;
            }
            assert!(began.elapsed() < SOON, "{demand:?}");
            thread::sleep(Duration::from_millis(10));
        }
    };
    let why = wait_for(&mut actuator, true).unwrap_err().to_string();
    assert!(why.contains("told 8000 mA, but says 16000 mA after 500 ms on wb/state"), "{why}");
    charger.says("wb/state", "{\"amps\":8}");
    assert_eq!(wait_for(&mut actuator, false), Ok(MilliAmps(16_000)));
    charger.says("wb/state", "broken");
    let why = wait_for(&mut actuator, true).unwrap_err().to_string();
    assert!(why.contains("nothing that can be read"), "{why}");
}

#[test]
fn a_charger_that_cannot_be_told_its_limit_is_one_failure_for_as_long_as_that_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let mut actuator = guarded(&charge_point(folder.path(), &wallbox(1), 0));
    actuator.set(MilliAmps(8_000), Some(boot_now() + Millis(60_000))).unwrap_err();
    let began = Instant::now();
    // Over several rounds of `repeat_ms`.
    while began.elapsed() < Duration::from_millis(1_500) {
        let demand = actuator.demand();
        assert!(demand.as_ref().is_err_and(|why| why.0.contains("cannot be told")), "{demand:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn safe_does_not_believe_that_a_charger_was_told_what_nobody_hears() {
    let broker = Broker::start();
    let output = grid_agent("safe", &charge_point(broker.folder.path(), &wallbox(broker.port), 0));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("does not hear what it is told on wb/enable: nobody has subscribed"), "{said}");
}

#[test]
fn a_charger_that_nobody_passes_its_limit_to_is_a_failure_until_it_is_there() {
    let broker = Broker::start();
    let without_read_back =
        wallbox(broker.port).replace("[actuator.mqtt.read_back]\ntopic = \"wb/state\"\npointer = \"/amps\"\n", "");
    let mut actuator = guarded(&charge_point(broker.folder.path(), &without_read_back, 0));
    actuator.set(MilliAmps(8_000), Some(boot_now() + Millis(60_000))).unwrap();
    let began = Instant::now();
    while actuator.demand().is_ok() {
        assert!(began.elapsed() < SOON);
        thread::sleep(Duration::from_millis(10));
    }
    let charger = Charger::at(&broker);
    charger.hears("wb/limit {\"amps\":8}");
    while actuator.demand().is_err() {
        assert!(began.elapsed() < SOON * 2);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_charger_that_has_fallen_silent_is_a_failure_where_what_it_says_may_grow_too_old() {
    let broker = Broker::start();
    let charger = Charger::at(&broker);
    charger.says("wb/state", "{\"amps\":8}");
    let section = wallbox(broker.port).replace("pointer = \"/amps\"", "pointer = \"/amps\"\nmax_age_ms = 1500");
    let mut actuator = guarded(&charge_point(broker.folder.path(), &section, 0));
    let failing = |actuator: &mut Box<dyn Actuator>, wanted: bool| {
        let began = Instant::now();
        while actuator.demand().is_err() != wanted {
            assert!(began.elapsed() < SOON);
            thread::sleep(Duration::from_millis(10));
        }
    };
    actuator.set(MilliAmps(8_000), Some(boot_now() + Millis(60_000))).unwrap();
    failing(&mut actuator, true);
    charger.says("wb/state", "{\"amps\":8}");
    failing(&mut actuator, false);
    failing(&mut actuator, true);
}

#[test]
fn safe_tells_a_charger_to_be_off_and_does_not_wait_long_for_a_broker_that_is_not_there() {
    let broker = Broker::start();
    let charger = Charger::at(&broker);
    let output = grid_agent("safe", &charge_point(broker.folder.path(), &wallbox(broker.port), 0));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    charger.hears("wb/enable 0");
    let began = Instant::now();
    let output = grid_agent("safe", &charge_point(broker.folder.path(), &wallbox(1), 0));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot be told"));
    assert!(began.elapsed() < Duration::from_secs(20), "ten times what it may wait");
}

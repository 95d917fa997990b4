//! The program as a person starts it.

#![allow(clippy::unwrap_used)]

mod mosquitto;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use grid_protocol::identity::{Identity, Issuer};
use grid_protocol::message::Role;
use grid_protocol::units::UnixMillis;
use mosquitto::{Broker, Process, SOON};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Writes key, certificate and authority of cp-3, and settings for a charge point on this bus.
fn settings(folder: &Path, bus: &str) -> String {
    let key = SigningKey::from_bytes(&[3; 32]);
    let site: grid_protocol::topic::Name = "demo".parse().unwrap();
    let issuer = Issuer::create(&site, NOW).unwrap();
    let name = "cp-3".parse().unwrap();
    let identity = Identity { site, role: Role::Device, name, key: key.verifying_key() };
    let (certificate, _) = issuer.issue(&identity, NOW).unwrap();
    fs::write(folder.join("key.pem"), key.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap();
    fs::write(folder.join("cp-3.der"), certificate).unwrap();
    fs::write(folder.join("ca.der"), issuer.authority().der()).unwrap();
    let folder = folder.display();
    format!(
        r#"
site = "demo"
name = "cp-3"
[identity]
message_key = "{folder}/key.pem"
certificate = "{folder}/cp-3.der"
authority = "{folder}/ca.der"
[[meter.ina219]]
bus = "{bus}"
address = 0x40
scale = 15
[device]
transformer = "trafo-1"
phases = ["L1"]
max_ma = 16000
"#
    )
}

fn grid_agent(command: &str, settings: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    fs::write(&file, settings).unwrap();
    let agent = env!("CARGO_BIN_EXE_grid-agent");
    Command::new(agent).arg(command).arg("--config").arg(file).args(more).output().unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn without_a_chip_it_says_what_is_missing_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), "/dev/i2c-99");
    for (command, more) in [("read", &[][..]), ("calibrate", &["--current-ma", "0"])] {
        let complaint = complaint(&grid_agent(command, &settings, more));
        for named in ["/dev/i2c-99", "enable I2C", "raspi-config"] {
            assert!(complaint.contains(named), "{command}: {complaint}");
        }
    }
}

#[test]
fn without_a_sensor_the_agent_runs_says_so_and_takes_it_as_soon_as_it_is_there() {
    let broker = Broker::start();
    let folder = broker.folder.path();
    let sensor = folder.join("hwmon0");
    let meter = format!("[[meter.hwmon]]\npath = {sensor:?}\nscale = 15\n[broker]\nport = {}", broker.port);
    let file = folder.join("agent.toml");
    fs::write(&file, with_meter(folder, &meter)).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_grid-agent"));
    agent.args(["run", "--config"]).arg(file).stderr(fs::File::create(folder.join("journal")).unwrap());
    let _agent = Process(agent.spawn().unwrap());
    let journal = || fs::read_to_string(folder.join("journal")).unwrap();
    let began = Instant::now();
    while !journal().contains("MeterFailed") {
        assert!(began.elapsed() < SOON, "{}", journal());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(journal().contains("hwmon0/curr1_input cannot be read"), "{}", journal());

    fs::create_dir(&sensor).unwrap();
    fs::write(sensor.join("curr1_input"), "100\n").unwrap();
    let measured =
        broker.client("mosquitto_sub", &["-t", "grid/demo/cp-3/measurement", "-C", "1", "-W", "10"]).output();
    let measured = String::from_utf8(measured.unwrap().stdout).unwrap();
    assert!(measured.contains("\"current_ma\":[1500]"), "{measured:?}\n{}", journal());
}

#[test]
fn every_wrong_value_is_named_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = settings(folder.path(), "/dev/i2c-99")
        .replace("address = 0x40", "address = 700")
        .replace("max_ma = 16000", "max_ma = 16000\npriority = \"high\"\nkind = \"toaster\"");
    let complaint = complaint(&grid_agent("run", &wrong, &[]));
    for named in ["700", "high", "toaster"] {
        assert!(complaint.contains(named), "{named} in {complaint}");
    }
}

#[test]
fn a_range_that_cannot_cover_the_limit_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let small = settings(folder.path(), "/dev/i2c-99").replace("scale = 15", "scale = 7");
    let complaint = complaint(&grid_agent("run", &small, &[]));
    assert!(complaint.contains("24000") && complaint.contains("22400"), "{complaint}");
}

#[test]
fn the_settings_in_force_are_printed_and_are_settings_again() {
    let folder = tempfile::tempdir().unwrap();
    let output = grid_agent("run", &settings(folder.path(), "/dev/i2c-1"), &["--print-config"]);
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("min_ma = 6000") && printed.contains("port = 1883"), "{printed}");
    let again = grid_agent("run", &printed, &["--print-config"]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), printed);
}

/// The settings of a charge point with another meter.
fn with_meter(folder: &Path, meter: &str) -> String {
    let settings = settings(folder, "/dev/i2c-1");
    let (before, rest) = settings.split_once("[[meter.ina219]]").unwrap();
    let (_, after) = rest.split_once("[device]").unwrap();
    format!("{before}{meter}\n[device]{after}")
}

const MQTT: &str = r#"[meter.mqtt]
unit = "W"
interval_ms = 200
[meter.mqtt.broker]
host = "127.0.0.1"
port = 1
[[meter.mqtt.phase]]
topic = "em/0"
pointer = "/power"
"#;

#[test]
fn each_kind_of_meter_is_printed_as_settings_again() {
    let folder = tempfile::tempdir().unwrap();
    for meter in [MQTT, "[[meter.hwmon]]\ndevice = \"1-0040\"\nscale = 15", "[meter.none]\nbase_ma = [0]"] {
        let output = grid_agent("run", &with_meter(folder.path(), meter), &["--print-config"]);
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let again = grid_agent("run", &printed, &["--print-config"]);
        assert_eq!(String::from_utf8(again.stdout).unwrap(), printed);
    }
}

#[test]
fn wrong_values_of_a_meter_are_all_named() {
    let folder = tempfile::tempdir().unwrap();
    let mqtt = MQTT.replace("interval_ms = 200", "interval_ms = 1").replace("em/0", "em/#").replace("/power", "power");
    let said = complaint(&grid_agent("run", &with_meter(folder.path(), &mqtt), &[]));
    for named in ["interval_ms = 1", "em/#", "\"power\""] {
        assert!(said.contains(named), "{named} in {said}");
    }
    let said = complaint(&grid_agent("run", &with_meter(folder.path(), "[meter.none]\nbase_ma = [0, 0]"), &[]));
    assert!(said.contains("1 phases, but [meter] has 2"), "{said}");
    let said = complaint(&grid_agent("run", &with_meter(folder.path(), "[[meter.hwmon]]\nscale = 7"), &[]));
    assert!(said.contains("22400") && said.contains("24000"), "{said}");
    let said = complaint(&grid_agent("run", &with_meter(folder.path(), "[meter.ina3221]\nbus = \"x\""), &[]));
    assert!(said.contains("ina3221") && said.contains("hwmon"), "{said}");
}

#[test]
fn a_constant_is_read_as_a_table_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let settings = with_meter(folder.path(), "[meter.none]\nbase_ma = [1200]");
    let table = grid_agent("read", &settings, &["--count", "1"]);
    let shown = String::from_utf8(table.stdout).unwrap();
    assert!(table.status.success() && shown.contains("L1") && shown.contains("1200"), "{shown}");
    let json = grid_agent("read", &settings, &["--json", "--count", "2"]);
    let shown = String::from_utf8(json.stdout).unwrap();
    assert_eq!(shown.lines().filter(|line| line.contains("\"current_ma\":1200")).count(), 2, "{shown}");
    let said = complaint(&grid_agent("calibrate", &settings, &["--current-ma", "0"]));
    assert!(said.contains("nothing to calibrate"), "{said}");
}

#[test]
fn a_meter_whose_broker_is_not_there_is_named_and_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let output = grid_agent("read", &with_meter(folder.path(), MQTT), &["--json", "--count", "1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("error") && said.contains("127.0.0.1:1"), "{said}");
}

#[test]
fn a_scan_of_a_bus_that_is_missing_or_none_cannot_tell() {
    let scan = |bus: &str| {
        let agent = env!("CARGO_BIN_EXE_grid-agent");
        complaint(&Command::new(agent).args(["scan", "--bus", bus]).output().unwrap())
    };
    assert!(scan("/dev/i2c-99").contains("enable I2C"));
}

#[test]
fn each_command_has_an_example() {
    for command in ["run", "status", "safe", "read", "scan", "calibrate"] {
        let output = Command::new(env!("CARGO_BIN_EXE_grid-agent")).args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Example") && help.contains(&format!("grid-agent {command} ")), "{help}");
    }
}

#[test]
fn a_key_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let lost = settings(folder.path(), "/dev/i2c-99").replace("key.pem", "lost.pem");
    let complaint = complaint(&grid_agent("run", &lost, &[]));
    assert!(complaint.contains("message_key") && complaint.contains("lost.pem"), "{complaint}");
}

#[test]
fn the_examples_are_settings_that_can_be_used() {
    let mut names = Vec::new();
    for folder in ["../deploy/examples/agents", "src/setup"] {
        for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let settings = grid_agent::settings::Settings::load(&path);
            assert!(settings.is_ok(), "{}: {}", path.display(), settings.unwrap_err());
            names.push(path.file_name().unwrap().to_owned());
        }
    }
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn every_wrong_fuse_and_step_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let charge_point =
        settings(folder.path(), "/dev/i2c-1").replace("max_ma = 16000", "max_ma = 16000\nsteps_ma = [9000, 8000]");
    let output = grid_agent("run", &charge_point, &[]);
    assert!(complaint(&output).contains("steps_ma = [9000, 8000]"), "{output:?}");

    let start = settings(folder.path(), "/dev/i2c-1");
    let start = start.split("[device]").next().unwrap();
    let transformer = format!(
        r#"{start}
[transformer]
limit_w = 20000
[[transformer.fuse]]
name = "row-a"
parent = "garage"
limit_ma = 10000
base_ma = 1000
[[transformer.device]]
name = "cp-1"
phases = ["L1"]
fuse = "row-a"
failsafe_ma = 9500
[[transformer.device]]
name = "cp-2"
phases = ["L1", "L1"]
fuse = "row-b"
"#
    );
    let said = complaint(&grid_agent("run", &transformer, &[]));
    for problem in [
        "\"row-a\" has the parent \"garage\", which does not stand before it",
        "\"cp-2\" needs phases, each once",
        "\"cp-2\" is behind the fuse \"row-b\", which there is not",
        "failsafes on L1 come to 9500 mA, but row-a has 9000 mA for them",
    ] {
        assert!(said.contains(problem), "{problem} in {said}");
    }
}

#[test]
fn the_status_of_an_agent_that_never_ran_or_has_no_outbox_cannot_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), "/dev/i2c-99");
    let complaint = |settings: &str| complaint(&grid_agent("status", settings, &[]));
    assert!(complaint(&settings).contains("[outbox] dir"));
    let outbox = folder.path().join("outbox");
    let with_outbox = settings.replace("[identity]", &format!("[outbox]\ndir = {outbox:?}\n[identity]"));
    let never_ran = complaint(&with_outbox);
    assert!(never_ran.contains("never run here") && never_ran.contains("outbox"), "{never_ran}");
    assert!(!outbox.exists(), "asking makes no folder");
}

#[test]
fn an_outbox_out_of_bounds_is_refused_with_the_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = settings(folder.path(), "/dev/i2c-99")
        .replace("[identity]", "[outbox]\nmemory_bytes = 10\ndisk_bytes = 20\n[identity]");
    let complaint = complaint(&grid_agent("run", &wrong, &[]));
    for named in ["outbox.memory_bytes = 10", "65536", "outbox.disk_bytes = 20", "1048576", "no outbox.dir"] {
        assert!(complaint.contains(named), "{named} in {complaint}");
    }
}

//! The program as a person starts it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use grid_protocol::identity::{Identity, Issuer};
use grid_protocol::message::Role;
use grid_protocol::units::UnixMillis;

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
[[meter]]
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
    for command in ["run", "read"] {
        let complaint = complaint(&grid_agent(command, &settings, &[]));
        for named in ["/dev/i2c-99", "enable I2C", "raspi-config"] {
            assert!(complaint.contains(named), "{command}: {complaint}");
        }
    }
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

#[test]
fn a_key_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let lost = settings(folder.path(), "/dev/i2c-99").replace("key.pem", "lost.pem");
    let complaint = complaint(&grid_agent("run", &lost, &[]));
    assert!(complaint.contains("message_key") && complaint.contains("lost.pem"), "{complaint}");
}

#[test]
fn the_examples_are_settings_that_can_be_used() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/agents");
    let mut names = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let settings = grid_agent::settings::Settings::load(&path);
        assert!(settings.is_ok(), "{}: {}", path.display(), settings.unwrap_err());
        names.push(path.file_name().unwrap().to_owned());
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

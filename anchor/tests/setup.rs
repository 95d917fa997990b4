//! `grid-anchor setup` and `check` as a script uses them, below a folder of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use grid_anchor::settings::Settings;
use grid_protocol::identity::Issuer;
use grid_protocol::message::Role;
use grid_service::clock::unix_now;

const BINARY: &str = env!("CARGO_BIN_EXE_grid-anchor");
/// Nobody listens there.
const NOWHERE: [&str; 2] = ["--broker", "127.0.0.1:1"];
const NO_LEDGER: [&str; 2] = ["--network", "none"];

struct Done {
    code: Option<i32>,
    text: String,
}

impl Done {
    fn of(output: Output) -> Self {
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        Self { code: output.status.code(), text }
    }

    fn says(&self, code: i32, named: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.text);
        for named in named {
            assert!(self.text.contains(named), "{named:?} in {}", self.text);
        }
    }
}

/// A machine in a folder, and bundles of its site.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        let issuer = Issuer::create(&"main-street".parse().unwrap(), unix_now()).unwrap();
        for (name, role) in [("anchor-1", Role::Anchor), ("cp-1", Role::Device)] {
            let bundle = issuer.issue_bundle(name.parse().unwrap(), role, unix_now()).unwrap();
            fs::write(machine.0.path().join(format!("{name}.bundle")), bundle.to_pem().unwrap()).unwrap();
        }
        machine
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.0.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    fn setup(&self, arguments: &[&str]) -> Done {
        let setup = ["setup", "anchor-1.bundle", "--root", "machine"];
        Done::of(self.command(&[&setup, arguments].concat()).output().unwrap())
    }

    /// With its files below the folder.
    fn check(&self) -> Done {
        let mut command = self.command(&["check", "--config", "machine/etc/grid/anchor.toml"]);
        command.env("GRID__IDENTITY__BUNDLE", self.at("etc/grid/anchor.bundle"));
        command.env("GRID__DATA_DIR", self.at("var/lib/grid-anchor")).env("GRID__HTTP__LISTEN", "127.0.0.1:0");
        Done::of(command.output().unwrap())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join("machine").join(path)
    }

    fn settings(&self) -> Settings {
        Settings::load(&self.at("etc/grid/anchor.toml")).unwrap()
    }
}

/// A mock ledger that ends with the test.
struct Mock(Child, String);

impl Mock {
    fn start(machine: &Machine) -> Self {
        let mut command = machine.command(&["mock-ledger", "--listen", "127.0.0.1:0", "--state", "mock.state"]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let first = BufReader::new(process.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let url = first.strip_prefix("mock ledger on ").unwrap().split(' ').next().unwrap().to_owned();
        Self(process, url)
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_script_sets_an_anchor_up_and_nothing_changes_when_it_does_so_again() {
    let machine = Machine::new();
    machine.setup(&[NO_LEDGER, NOWHERE].concat()).says(0, &["written"]);
    let settings = machine.settings();
    assert_eq!((settings.site.as_str(), settings.name.as_str()), ("main-street", "anchor-1"));
    assert!(settings.ledger.is_none() && settings.broker.tls && settings.broker.port == 1);
    let text = fs::read_to_string(machine.at("etc/grid/anchor.toml")).unwrap();
    assert!(text.contains("# Older entries are dropped from the disk"), "comments stay: {text}");
    let mode = |path| fs::metadata(machine.at(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("etc/grid/anchor.bundle"), mode("etc/grid/anchor.toml")), (0o600, 0o644));

    machine.setup(&[NO_LEDGER, NOWHERE].concat()).says(0, &["unchanged  machine/etc/grid/anchor.toml"]);
    machine.setup(&[]).says(0, &["unchanged  machine/etc/grid/anchor.bundle"]);
    machine
        .setup(&["--network", "testnet", "--broker", "elsewhere"])
        .says(2, &["ledger is not there", "broker.host is \"127.0.0.1\", not \"elsewhere\"", "Nothing was changed"]);
    assert_eq!(fs::read_to_string(machine.at("etc/grid/anchor.toml")).unwrap(), text);

    machine.check().says(
        1,
        &[
            "ok     identity        anchor-1, anchor of the site main-street",
            "WRONG  broker          127.0.0.1:1: ",
            "--     log  ",
            "--     ledger          none",
            "the anchor does not run",
        ],
    );
}

#[test]
fn what_is_missing_or_wrong_is_named_and_nothing_is_written() {
    let machine = Machine::new();
    machine.setup(&NO_LEDGER).says(2, &["give --broker "]);
    machine.setup(&NOWHERE).says(2, &["give --network "]);
    machine.setup(&[&NOWHERE[..], &["--network", "bitcoin"]].concat()).says(2, &["bitcoin", "testnet"]);
    fs::copy(machine.0.path().join("cp-1.bundle"), machine.0.path().join("anchor-1.bundle")).unwrap();
    machine.setup(&[NO_LEDGER, NOWHERE].concat()).says(2, &["bundle of a device", "grid-agent setup"]);
    assert!(!machine.at("").exists());
}

#[test]
fn with_a_ledger_keys_and_a_sealed_trail_are_made_before_the_settings_that_need_them() {
    let machine = Machine::new();
    let nobody = ["--network", "mock", "--grpc", "http://127.0.0.1:1"];
    machine.setup(&[&NOWHERE[..], &nobody].concat()).says(2, &["127.0.0.1:1"]);
    assert!(!machine.at("etc/grid/anchor.toml").exists(), "the next setup goes on with it");

    let mock = Mock::start(&machine);
    machine
        .setup(&[&NOWHERE[..], &["--network", "mock", "--grpc", &mock.1]].concat())
        .says(0, &["trail ", "sealed in"]);
    let ledger = machine.settings().ledger.unwrap();
    assert_eq!(ledger.grpc, std::slice::from_ref(&mock.1));
    assert!(machine.at("var/lib/grid-anchor/site.policy").exists());
    machine.check().says(1, &["ok     ledger          mock has the trail 0x", "WRONG  broker"]);
    drop(mock);
    machine.check().says(1, &["WRONG  ledger          mock cannot be asked"]);
    fs::remove_file(machine.at("var/lib/grid-anchor/site.policy")).unwrap();
    machine.check().says(1, &["grid-anchor init --network mock makes it"]);
}

//! `grid-anchor setup` and `check` as a script uses them, below a folder of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "../../agent/service/tests/program/mod.rs"]
mod program;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use grid_anchor::settings::Settings;
use grid_protocol::identity::Issuer;
use grid_protocol::message::Role;
use grid_service::clock::unix_now;
use program::{Done, LONG, NOWHERE, Running, lines};
use tokio::runtime::Runtime;

const BINARY: &str = env!("CARGO_BIN_EXE_grid-anchor");
const NO_BROKER: [&str; 2] = ["--broker", NOWHERE];
const NO_LEDGER: [&str; 2] = ["--network", "none"];

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
        program::command(BINARY, self.0.path(), arguments)
    }

    fn setup(&self, arguments: &[&str]) -> Done {
        let setup = ["setup", "anchor-1.bundle", "--root", "machine"];
        Done::of(&mut self.command(&[&setup, arguments].concat()))
    }

    /// A command with the settings that setup made, its files below the folder, and this address to serve the log at.
    fn with_settings(&self, command: &str, http: &str) -> Command {
        let mut command = self.command(&[command, "--config", "machine/etc/grid/anchor.toml"]);
        command.env("GRID__IDENTITY__BUNDLE", self.at("etc/grid/anchor.bundle"));
        command.env("GRID__DATA_DIR", self.at("var/lib/grid-anchor")).env("GRID__HTTP__LISTEN", http);
        command
    }

    fn check(&self) -> Done {
        Done::of(&mut self.with_settings("check", "127.0.0.1:0"))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join("machine").join(path)
    }

    fn settings(&self) -> Settings {
        Settings::load(&self.at("etc/grid/anchor.toml")).unwrap()
    }
}

/// A mock ledger, and where it is.
fn mock_ledger(machine: &Machine) -> (Running, String) {
    let mut command = machine.command(&["mock-ledger", "--listen", "127.0.0.1:0", "--state", "mock.state"]);
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let first = lines(process.stdout.take().unwrap()).recv_timeout(LONG).unwrap();
    let url = first.strip_prefix("mock ledger on ").unwrap().split(' ').next().unwrap().to_owned();
    (Running(process), url)
}

#[test]
fn a_script_sets_an_anchor_up_and_nothing_changes_when_it_does_so_again() {
    let machine = Machine::new();
    machine.setup(&[NO_LEDGER, NO_BROKER].concat()).says(0, &["written"]);
    let settings = machine.settings();
    assert_eq!((settings.site.as_str(), settings.name.as_str()), ("main-street", "anchor-1"));
    assert!(settings.ledger.is_none() && settings.broker.tls && settings.broker.port == 1);
    let text = fs::read_to_string(machine.at("etc/grid/anchor.toml")).unwrap();
    assert!(text.contains("# Older entries are dropped from the disk"), "comments stay: {text}");
    let mode = |path| fs::metadata(machine.at(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("etc/grid/anchor.bundle"), mode("etc/grid/anchor.toml")), (0o600, 0o644));

    machine.setup(&[NO_LEDGER, NO_BROKER].concat()).says(0, &["unchanged  machine/etc/grid/anchor.toml"]);
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
    machine.setup(&NO_BROKER).says(2, &["give --network "]);
    machine.setup(&[&NO_BROKER[..], &["--network", "bitcoin"]].concat()).says(2, &["bitcoin", "testnet"]);
    fs::copy(machine.0.path().join("cp-1.bundle"), machine.0.path().join("anchor-1.bundle")).unwrap();
    machine.setup(&[NO_LEDGER, NO_BROKER].concat()).says(2, &["bundle of a device", "grid-agent setup"]);
    assert!(!machine.at("").exists());
}

#[test]
fn with_a_ledger_keys_and_a_sealed_trail_are_made_before_the_settings_that_need_them() {
    let machine = Machine::new();
    let nobody = ["--network", "mock", "--grpc", "http://127.0.0.1:1"];
    machine.setup(&[&NO_BROKER[..], &nobody].concat()).says(2, &["127.0.0.1:1"]);
    assert!(!machine.at("etc/grid/anchor.toml").exists(), "the next setup goes on with it");

    let (mock, grpc) = mock_ledger(&machine);
    machine
        .setup(&[&NO_BROKER[..], &["--network", "mock", "--grpc", &grpc]].concat())
        .says(0, &["trail ", "sealed in"]);
    let ledger = machine.settings().ledger.unwrap();
    assert_eq!(ledger.grpc, [grpc]);
    assert!(machine.at("var/lib/grid-anchor/site.policy").exists());
    machine.check().says(1, &["ok     ledger          mock has the trail 0x", "WRONG  broker"]);
    drop(mock);
    machine.check().says(1, &["WRONG  ledger          mock cannot be asked"]);
    fs::remove_file(machine.at("var/lib/grid-anchor/site.policy")).unwrap();
    machine.check().says(1, &["grid-anchor init --network mock makes it"]);
}

/// A broker that lets everybody in, for as long as this is there.
fn open_broker() -> (Runtime, u16) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (limits, access) = (grid_broker::Limits::default(), grid_broker::Access::open());
    runtime.spawn(grid_broker::run(listener.into(), limits, access, std::future::pending()));
    (runtime, port)
}

#[test]
fn nothing_is_wrong_with_an_anchor_that_has_just_begun_and_its_first_record_is_promised() {
    let machine = Machine::new();
    let (_mock, grpc) = mock_ledger(&machine);
    let (_broker, port) = open_broker();
    let at = format!("127.0.0.1:{port}");
    machine.setup(&["--broker", &at, "--network", "mock", "--grpc", &grpc]).says(0, &["sealed in"]);
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let with_interval = |command: &str, interval_ms: &str| {
        let mut command = machine.with_settings(command, &http);
        command.env("GRID__BROKER__TLS", "false").env("GRID__LEDGER__INTERVAL_MS", interval_ms);
        command
    };
    let run = |interval_ms| {
        let log = File::create(machine.0.path().join("anchor.log")).unwrap();
        Running(with_interval("run", interval_ms).stderr(log).spawn().unwrap())
    };
    let check_until = |interval_ms: &str, holds: &dyn Fn(&str) -> bool| {
        let began = Instant::now();
        loop {
            let done = Done::of(&mut with_interval("check", interval_ms));
            if holds(&done.text) {
                return done;
            }
            let log = || fs::read_to_string(machine.0.path().join("anchor.log")).unwrap();
            assert!(began.elapsed() < LONG, "{}{}", done.text, log());
            thread::sleep(Duration::from_millis(20));
        }
    };

    let anchor = run("600000");
    // The first check that finds it running is content.
    check_until("600000", &|text| text.contains("by an anchor that runs"))
        .says(0, &["--     record          nothing is ", "the first record comes within 11 min", "answers"]);
    drop(anchor);
    let _anchor = run("1000");
    check_until("1000", &|text| text.contains("an anchor that runs") && !text.contains("--     record"))
        .does_not_say("nothing is on the ledger");
}

//! `grid-agent setup` and `check` as a person and a script use them, below a folder of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod mosquitto;
#[path = "../service/tests/program/mod.rs"]
mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use grid_agent::settings::Settings;
use grid_protocol::identity::{BACKDATED, Endpoint, Issuer};
use grid_protocol::message::Role;
use grid_protocol::units::UnixMillis;
use grid_service::clock::unix_now;
use mosquitto::Broker;
use program::{Conversation, Done, LONG, NOWHERE, Running};

const BINARY: &str = env!("CARGO_BIN_EXE_grid-agent");
const DAY_MS: u64 = 24 * 3600 * 1000;

/// What a script says of a charge point.
const CHARGE_POINT: [&str; 10] = [
    "--meter",
    "ina219:0x40,0x41,0x44",
    "--scale",
    "15",
    "--max-ma",
    "32000",
    "--actuator",
    "relay:17",
    "--broker",
    NOWHERE,
];
/// And of a transformer.
const TRANSFORMER: [&str; 10] = [
    "--limit-w",
    "80000",
    "--meter",
    "none:12000,12000,12000",
    "--device",
    "cp-1:L1L2L3",
    "--device",
    "cp-2:L2:0",
    "--broker",
    NOWHERE,
];

/// A machine in a folder, and the authority of its site.
struct Machine {
    folder: tempfile::TempDir,
    issuer: Issuer,
}

impl Machine {
    fn new() -> Self {
        let issuer = Issuer::create(&"main-street".parse().unwrap(), unix_now()).unwrap();
        let machine = Self { folder: tempfile::tempdir().unwrap(), issuer };
        machine.issue("cp-1", Role::Device, unix_now(), &[]);
        machine.issue("trafo-1", Role::Transformer, unix_now(), &[]);
        machine
    }

    /// Puts a bundle into the folder.
    fn issue(&self, name: &str, role: Role, now: UnixMillis, brokers: &[&str]) {
        let brokers: Vec<Endpoint> = brokers.iter().map(|broker| broker.parse().unwrap()).collect();
        let bundle = self.issuer.issue_bundle(name.parse().unwrap(), role, now).unwrap();
        fs::write(self.folder.path().join(format!("{name}.bundle")), bundle.to_pem_with(&brokers).unwrap()).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        program::command(BINARY, self.folder.path(), arguments)
    }

    fn setup(&self, name: &str, arguments: &[&str]) -> Done {
        let bundle = format!("{name}.bundle");
        Done::of(&mut self.command(&[&["setup", &bundle, "--root", "machine"], arguments].concat()))
    }

    fn config(&self, name: &str) -> PathBuf {
        self.at(&format!("etc/grid/agent/{name}.toml"))
    }

    /// With its files below the folder.
    fn with_paths(&self, command: &str, name: &str) -> Command {
        let config = self.config(name);
        let mut command = self.command(&[command, "--config", config.to_str().unwrap()]);
        let state = |what| self.at(&format!("var/lib/grid-agent/{name}/{what}"));
        command.env("GRID__IDENTITY__BUNDLE", self.at(&format!("etc/grid/agent/{name}.bundle")));
        command.env("GRID__OUTBOX__DIR", state("outbox"));
        command.env("GRID__DEVICE__COMMANDS_FILE", state("commands"));
        command
    }

    fn check(&self, name: &str) -> Done {
        Done::of(&mut self.with_paths("check", name))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("machine").join(path)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.config(name)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.at(path)).unwrap().permissions().mode() & 0o777
    }

    /// A broker that asks for certificates of the site's authority.
    fn broker(&self) -> Broker {
        let server = self.issuer.issue_server(&["127.0.0.1"], unix_now()).unwrap();
        Broker::with(|folder| {
            fs::write(folder.join("ca.pem"), self.issuer.certificate_pem()).unwrap();
            fs::write(folder.join("broker.pem"), &server.certificate).unwrap();
            fs::write(folder.join("broker.key"), server.key_pem()).unwrap();
            let file = |name: &str| folder.join(name).display().to_string();
            let (authority, certificate, key) = (file("ca.pem"), file("broker.pem"), file("broker.key"));
            format!(
                "user root\ncafile {authority}\ncertfile {certificate}\nkeyfile {key}\nrequire_certificate true\n\
                 use_identity_as_username true\n"
            )
        })
    }
}

#[test]
fn a_script_sets_a_device_up_and_nothing_changes_when_it_does_so_again() {
    let machine = Machine::new();
    machine.setup("cp-1", &CHARGE_POINT).says(
        0,
        &["written", "trafo-1 has to know cp-1", "--device cp-1:L1L2L3:6000", "phases = [\"L1\", \"L2\", \"L3\"]"],
    );
    let settings = Settings::load(&machine.config("cp-1")).unwrap();
    assert_eq!((settings.site.as_str(), settings.name.as_str()), ("main-street", "cp-1"));
    let device = settings.device.unwrap();
    assert_eq!((device.max_ma.0, device.failsafe_ma.0, device.phases.len()), (32_000, 6_000, 3));
    let text = machine.text("cp-1");
    for stays in [
        "# What it may draw when nobody leads it",
        "bundle = \"/etc/grid/agent/cp-1.bundle\"",
        "dir = \"/var/lib/grid-agent/cp-1/outbox\"",
        "# The contactor that releases the device",
        "address = 0x44",
        "line = 17",
    ] {
        assert!(text.contains(stays), "{stays:?} in {text}");
    }
    assert!(!text.contains("control_pilot"), "{text}");
    let modes = (machine.mode("etc/grid/agent/cp-1.bundle"), machine.mode("etc/grid/agent/cp-1.toml"));
    assert_eq!(modes, (0o600, 0o644));

    machine.setup("cp-1", &CHARGE_POINT).says(0, &["unchanged  machine/etc/grid/agent/cp-1.toml"]);
    machine.setup("cp-1", &[]).says(0, &["unchanged  machine/etc/grid/agent/cp-1.bundle"]);
    assert_eq!(machine.text("cp-1"), text);
    let printed = Done::of(machine.with_paths("run", "cp-1").arg("--print-config"));
    printed.says(0, &["max_ma = 32000"]);
}

#[test]
fn each_kind_of_meter_and_actuator_makes_settings_that_can_be_used() {
    let machine = Machine::new();
    let meters = [
        ("ina219:0x45", "address = 0x45"),
        ("hwmon", "[[meter.hwmon]]"),
        ("hwmon:1-0040", "device = \"1-0040\""),
        ("hwmon:/sys/class/hwmon/hwmon3", "path = \"/sys/class/hwmon/hwmon3\""),
        ("none:0", "base_ma = [0]"),
    ];
    let actuators = [
        ("control-pilot", "[actuator.control_pilot]"),
        ("pwm", "[actuator.pwm]"),
        ("relay:4", "line = 4"),
        ("none", "[device]"),
    ];
    for ((meter, measures), (actuator, limits)) in
        meters.iter().flat_map(|meter| actuators.map(|actuator| (*meter, actuator)))
    {
        let _ = fs::remove_file(machine.config("cp-1"));
        let mut arguments = vec!["--meter", meter, "--actuator", actuator, "--phases", "L2", "--max-ma", "16000"];
        arguments.extend(["--broker", NOWHERE]);
        arguments.extend(if meter.starts_with("none") { &[][..] } else { &["--scale", "15"] });
        machine.setup("cp-1", &arguments).says(0, &[]);
        let text = machine.text("cp-1");
        assert!(text.contains(measures) && text.contains(limits) && text.contains("phases = [\"L2\"]"), "{text}");
        assert!(text.find("[outbox]") < text.find("meter.") && text.find("meter.") < text.find("[device]"), "{text}");
        assert!(Settings::load(&machine.config("cp-1")).is_ok(), "{text}");
        machine.setup("cp-1", &arguments).says(0, &["unchanged  machine/etc/grid/agent/cp-1.toml"]);
    }
}

#[test]
fn a_transformer_reserves_six_amperes_for_each_device_where_they_fit_and_says_so() {
    let machine = Machine::new();
    machine.setup("trafo-1", &TRANSFORMER).says(
        0,
        &[
            "L1 6000 mA, L2 6000 mA, L3 6000 mA of 113624 mA",
            "grid-agent setup cp-1.bundle --phases L1L2L3 --failsafe-ma 6000",
            "grid-agent setup cp-2.bundle --phases L2 --failsafe-ma 0",
        ],
    );
    let settings = Settings::load(&machine.config("trafo-1")).unwrap();
    let transformer = settings.transformer.unwrap();
    let failsafes: Vec<i64> = transformer.device.iter().map(|device| device.failsafe_ma.0).collect();
    assert_eq!((transformer.limit_w, failsafes), (80_000, vec![6_000, 0]));
    assert!(machine.text("trafo-1").contains("# [[transformer.fuse]]"), "how to add a fuse stays in it");
    machine.setup("trafo-1", &TRANSFORMER).says(0, &["unchanged"]);

    // 13.8 kW are 19.6 A per phase: not enough for four times 6 A.
    fs::remove_file(machine.config("trafo-1")).unwrap();
    let mut small = vec!["--limit-w", "13800", "--meter", "none:0,0,0", "--broker", NOWHERE];
    small.extend(["a:L1", "b:L1", "c:L1", "d:L1L2L3"].iter().flat_map(|device| ["--device", device]));
    let too_much = machine.setup("trafo-1", &[&small[..], &["--failsafe-ma", "6000"]].concat());
    too_much.says(2, &["failsafes on L1 come to 24000 mA", "19600 mA"]);
    machine
        .setup("trafo-1", &small)
        .says(0, &["L1 0 mA, L2 0 mA, L3 0 mA of 19600 mA", "d.bundle --phases L1L2L3 --failsafe-ma 0"]);

    fs::remove_file(machine.config("trafo-1")).unwrap();
    machine.setup("trafo-1", &["--limit-w", "13800", "--meter", "none:0,0,0", "--broker", NOWHERE]).says(0, &[]);
    assert!(machine.text("trafo-1").contains("# [[transformer.device]]"), "how to add a device stays in it");
}

#[test]
fn without_a_terminal_what_has_no_default_is_named() {
    let machine = Machine::new();
    for missing in ["--meter", "--scale", "--max-ma", "--actuator", "--broker"] {
        let at = CHARGE_POINT.iter().position(|argument| *argument == missing).unwrap();
        let without = [&CHARGE_POINT[..at], &CHARGE_POINT[at + 2..]].concat();
        machine.setup("cp-1", &without).says(2, &[&format!("give {missing} ")]);
    }
    let mut one_phase = CHARGE_POINT;
    one_phase[1] = "ina219:0x40";
    machine.setup("cp-1", &one_phase).says(2, &["give --phases "]);
    for missing in ["--limit-w", "--meter", "--broker"] {
        let at = TRANSFORMER.iter().position(|argument| *argument == missing).unwrap();
        let without = [&TRANSFORMER[..at], &TRANSFORMER[at + 2..]].concat();
        machine.setup("trafo-1", &without).says(2, &[&format!("give {missing} ")]);
    }
    assert!(!machine.at("").exists(), "nothing was written");
}

#[test]
fn wrong_answers_are_named_and_nothing_is_written() {
    let machine = Machine::new();
    machine.issue("anchor-1", Role::Anchor, unix_now(), &[]);
    for (name, wrong, named) in [
        ("cp-1", vec!["--meter", "ina219"], "ina219:0x40,0x41,0x44"),
        ("cp-1", vec!["--meter", "ina219:0x40,0x41", "--phases", "L1L2L3"], "3 phases, but [meter] has 2"),
        ("cp-1", vec!["--meter", "ina219:0x20,0x41,0x42"], "0x20"),
        ("cp-1", vec!["--scale", "7"], "set scale to at least 15"),
        ("cp-1", vec!["--scale", "0"], "--scale"),
        ("cp-1", vec!["--phases", "L4"], "L1L2L3 or L2"),
        ("cp-1", vec!["--kind", "car"], "heat_pump"),
        ("cp-1", vec!["--max-ma", "16A"], "16A"),
        ("cp-1", vec!["--min-ma", "40000"], "device.min_ma = 40000"),
        ("cp-1", vec!["--failsafe-ma", "40000"], "device.failsafe_ma = 40000"),
        ("cp-1", vec!["--actuator", "relay"], "relay:17"),
        ("cp-1", vec!["--broker", "a b"], "a b"),
        ("cp-1", vec!["--transformer", "T"], "T"),
        ("cp-1", vec!["--limit-w", "80000"], "--limit-w is for a transformer"),
        ("cp-1", vec!["--device", "cp-2:L1"], "--device is for a transformer"),
        ("trafo-1", vec!["--max-ma", "1"], "--max-ma is for a device"),
        ("trafo-1", vec!["--device", "cp-3:L5"], "cp-3:L5"),
        ("trafo-1", vec!["--device", "cp-1:L1"], "\"cp-1\" stands twice"),
        ("trafo-1", vec!["--meter", "none:0"], "a transformer needs 3"),
        ("trafo-1", vec!["--limit-w", "0"], "transformer.limit_w = 0"),
        ("anchor-1", vec![], "grid-anchor setup"),
        ("nobody", vec![], "nobody.bundle cannot be read"),
    ] {
        let usual = if name == "trafo-1" { TRANSFORMER } else { CHARGE_POINT };
        // What is given twice is refused before it is looked at.
        let at = wrong.first().filter(|flag| **flag != "--device");
        let at = at.and_then(|flag| usual.iter().position(|argument| argument == flag));
        let rest = at.map_or(usual.to_vec(), |at| [&usual[..at], &usual[at + 2..]].concat());
        machine.setup(name, &[rest, wrong].concat()).says(2, &[named]);
    }
    fs::write(machine.folder.path().join("rubbish.bundle"), "rubbish").unwrap();
    machine.setup("rubbish", &[]).says(2, &["rubbish.bundle is no bundle"]);
    assert!(!machine.at("").exists());
}

#[test]
fn what_is_there_and_says_otherwise_stays_and_is_told() {
    let machine = Machine::new();
    machine.setup("cp-1", &CHARGE_POINT).says(0, &[]);
    let before = machine.text("cp-1");
    machine.setup("cp-1", &["--max-ma", "16000", "--scale", "20", "--actuator", "pwm", "--broker", "elsewhere"]).says(
        2,
        &[
            "device.max_ma is 32000, not 16000",
            "meter.ina219[2].scale is 15, not 20",
            "actuator.relay is there, and is not wanted",
            "actuator.pwm is not there",
            "broker.host is \"127.0.0.1\", not \"elsewhere\"",
            "Nothing was changed",
        ],
    );
    assert_eq!(machine.text("cp-1"), before);

    // A person's own settings stay, too.
    let own = before.replace("priority = 5", "priority = 3") + "min_on_ms = 60000\n";
    fs::write(machine.config("cp-1"), &own).unwrap();
    machine.setup("cp-1", &CHARGE_POINT).says(0, &["unchanged  machine/etc/grid/agent/cp-1.toml"]);
    assert_eq!(machine.text("cp-1"), own);
    fs::write(machine.config("cp-1"), own.replace("max_ma", "most_ma")).unwrap();
    machine.setup("cp-1", &CHARGE_POINT).says(2, &["most_ma", "Mend that file"]);
}

#[test]
fn a_newer_bundle_takes_the_place_of_an_older_one_and_another_sites_does_not() {
    let machine = Machine::new();
    let bundle = || fs::read(machine.at("etc/grid/agent/cp-1.bundle")).unwrap();
    machine.setup("cp-1", &CHARGE_POINT).says(0, &[]);
    let first = bundle();
    machine.issue("cp-1", Role::Device, UnixMillis(unix_now().0 + DAY_MS), &[]);
    machine.setup("cp-1", &[]).says(0, &["written    machine/etc/grid/agent/cp-1.bundle", "unchanged"]);
    let newer = bundle();
    assert_ne!(newer, first);
    fs::write(machine.folder.path().join("cp-1.bundle"), first).unwrap();
    machine.setup("cp-1", &[]).says(2, &["cp-1.bundle is there, is newer than"]);
    let other = Issuer::create(&"main-street".parse().unwrap(), unix_now()).unwrap();
    let other =
        other.issue_bundle("cp-1".parse().unwrap(), Role::Device, UnixMillis(unix_now().0 + 9 * DAY_MS)).unwrap();
    fs::write(machine.folder.path().join("cp-1.bundle"), other.to_pem().unwrap()).unwrap();
    machine.setup("cp-1", &[]).says(2, &["is of another site's authority"]);
    assert_eq!(bundle(), newer);
}

#[test]
fn the_first_broker_of_the_bundle_that_answers_is_taken() {
    let machine = Machine::new();
    let broker = machine.broker();
    let here = format!("127.0.0.1:{}", broker.port);
    machine.issue("cp-1", Role::Device, unix_now(), &[NOWHERE, &here, "broker.invalid:1"]);
    let without_broker = &CHARGE_POINT[..8];
    machine.setup("cp-1", without_broker).says(0, &["no answer  127.0.0.1:1: "]);
    assert_eq!(Settings::load(&machine.config("cp-1")).unwrap().broker.port, broker.port);

    // If none answers, the first is as good as any.
    fs::remove_file(machine.config("cp-1")).unwrap();
    drop(broker);
    machine.setup("cp-1", without_broker).says(0, &["no answer"]);
    assert_eq!(Settings::load(&machine.config("cp-1")).unwrap().broker.port, 1);
}

#[test]
fn a_person_is_asked_and_may_answer_wrongly_first() {
    let machine = Machine::new();
    let mut setup = Conversation::begin(BINARY, machine.folder.path(), "setup cp-1.bundle --root machine");
    setup.answers(&[
        ("Where the broker is (HOST or HOST:PORT): ", "127.0.0.1:1"),
        ("The transformer it obeys [trafo-1]: ", ""),
        ("What it is (ev: a car's charge point, heat_pump, battery, other) [ev]: ", "other"),
        ("The phases it is connected to (L1L2L3, L2) [L1L2L3]: ", "L9"),
        ("The phases it is connected to (L1L2L3, L2) [L1L2L3]: ", "L1"),
        ("The least current of use to it, in mA per phase [0]: ", ""),
        ("The most it can draw, in mA per phase: ", "16000"),
        ("What it may draw when nobody leads it, in mA per phase (its transformer reserves that) [0]: ", ""),
        ("What measures", "hwmon"),
        ("(it has to show 1.5 times 16000 mA): ", "15"),
        ("What limits it (control-pilot, pwm, relay:17 with its GPIO line; none: it is only told): ", "pwm"),
    ]);
    setup.hears("written    machine/etc/grid/agent/cp-1.toml");
    assert_eq!(setup.ends().code(), Some(0));
    assert!(machine.text("cp-1").contains("[actuator.pwm]"));
    Settings::load(&machine.config("cp-1")).unwrap();
}

/// A device without sensor and hardware, on this broker.
fn advised(machine: &Machine, broker: &Broker) {
    let at = format!("127.0.0.1:{}", broker.port);
    let device = ["--meter", "none:0,0,0", "--max-ma", "16000", "--actuator", "none", "--broker", &at];
    machine.setup("cp-1", &device).says(0, &[]);
}

#[test]
fn check_says_what_is_reachable_and_what_a_running_agent_sees_without_disturbing_it() {
    let machine = Machine::new();
    let broker = machine.broker();
    advised(&machine, &broker);
    machine.check("cp-1").says(
        0,
        &[
            "ok     identity        cp-1, device of the site main-street",
            "ok     certificate     valid for ",
            "has mode 600",
            "--     agent           does not run",
            "ok     meter           none: L1 0 mA, L2 0 mA, L3 0 mA",
            "--     actuator        none",
            "answers by TLS, and takes our certificate",
            "--     outbox  ",
        ],
    );
    fs::create_dir_all(machine.at("var/lib/grid-agent/cp-1")).unwrap();
    let journal = machine.folder.path().join("journal");
    let mut agent = machine.with_paths("run", "cp-1");
    let _agent = Running(agent.stderr(fs::File::create(&journal).unwrap()).spawn().unwrap());
    let began = Instant::now();
    let runs = loop {
        let done = machine.check("cp-1");
        if !done.text.contains("agent           does not run") {
            break done;
        }
        assert!(began.elapsed() < LONG, "{}{}", done.text, fs::read_to_string(&journal).unwrap());
        thread::sleep(Duration::from_millis(50));
    };
    runs.says(
        0,
        &[
            // However short it has run: it is given its time to find the broker.
            "ok     agent           runs; the broker is there, the anchor is not",
            "the agent measures 0 mA, 0 mA, 0 mA; is in failsafe, and may draw 6000 mA",
            "answers by TLS, and takes our certificate",
            "ok     outbox          ",
        ],
    );
    let said = fs::read_to_string(&journal).unwrap();
    assert!(!said.contains("ThrownOut") && !said.contains("no connection"), "{said}");
    drop(broker);
    machine.check("cp-1").says(
        1,
        &["WRONG  agent           runs, but has no connection to the broker", "WRONG  broker", "nobody listens there"],
    );
}

#[test]
fn check_names_what_is_wrong_and_what_to_do() {
    let machine = Machine::new();
    machine.check("cp-1").says(2, &["cp-1.toml"]);
    machine.setup("cp-1", &CHARGE_POINT).says(0, &[]);
    let set_mode = |path: &str, mode| {
        fs::set_permissions(machine.at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode("etc/grid/agent/cp-1.bundle", 0o644);
    machine.check("cp-1").says(
        1,
        &[
            "WRONG  bundle          ",
            "chmod 600",
            "WRONG  meter           there is no /dev/i2c-1",
            "WRONG  actuator        there is no /dev/gpiochip0",
            "WRONG  broker          127.0.0.1:1: ",
        ],
    );
    // A broker of another site, and a bundle of another role or that ends soon.
    let other = Machine::new();
    let broker = other.broker();
    fs::remove_file(machine.config("cp-1")).unwrap();
    advised(&machine, &broker);
    machine.check("cp-1").says(1, &["WRONG  broker", "not of this site's authority"]);
    let put = |role, made| {
        machine.issue("cp-1", role, UnixMillis(made), &[]);
        fs::copy(machine.folder.path().join("cp-1.bundle"), machine.at("etc/grid/agent/cp-1.bundle")).unwrap();
    };
    put(Role::Transformer, unix_now().0);
    machine.check("cp-1").says(1, &["WRONG  identity        its certificate is for the role transformer, not device"]);
    put(Role::Device, unix_now().0 + 2 * BACKDATED.as_millis() as u64);
    machine.check("cp-1").says(1, &["WRONG  certificate     is not valid yet"]);
    let own = machine.text("cp-1").replace("max_ma", "most_ma");
    fs::write(machine.config("cp-1"), own).unwrap();
    machine.check("cp-1").says(2, &["most_ma"]);
}

#[test]
fn what_a_restart_may_mend_ends_an_agent_with_another_code_than_what_takes_a_person() {
    let machine = Machine::new();
    machine.setup("cp-1", &CHARGE_POINT).says(0, &[]);
    let run = || Done::of(&mut machine.with_paths("run", "cp-1"));
    run().says(1, &["/dev/gpiochip0"]);
    let text = machine.text("cp-1");
    let without_actuator = text.split("# The contactor").next().unwrap().to_owned()
        + "[device]"
        + text.split("\n[device]").nth(1).unwrap();
    fs::write(machine.config("cp-1"), &without_actuator).unwrap();
    fs::remove_file(machine.at("etc/grid/agent/cp-1.bundle")).unwrap();
    run().says(2, &["cp-1.bundle"]);
    fs::write(machine.config("cp-1"), without_actuator.replace("max_ma", "most_ma")).unwrap();
    run().says(2, &["most_ma"]);
}

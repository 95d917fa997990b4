//! Settings as a person writes them, and the program as it reads them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use grid_broker::{Limits, PasswordHash, Settings, Source};
use grid_protocol::identity::Issuer;
use grid_protocol::message::{Header, Message, Role, Session};
use grid_protocol::revocation::{self, Revocations};
use grid_service::clock::unix_now;
use tempfile::TempDir;

/// Without `[listen]`, which each test adds.
const SITE: &str = "site = \"s\"\n";

struct Place {
    folder: TempDir,
}

impl Place {
    fn with(settings: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write(settings);
        place
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("broker.toml")
    }

    fn write(&self, settings: &str) {
        fs::write(self.file(), settings).unwrap();
    }

    fn source(&self) -> Source {
        Source { config: Some(self.file()), ..Source::default() }
    }
}

fn check(settings: &str) -> Result<Settings, String> {
    let read = Place::with(settings).source().read();
    let checked = read.and_then(|settings| settings.check().map(|()| settings));
    checked.map_err(|error| error.to_string())
}

/// Checks that the settings are refused, and that what is said about it has all of `named`.
fn assert_wrong(settings: &str, named: &[&str]) {
    let error = check(settings).unwrap_err();
    for named in named {
        assert!(error.contains(named), "{named:?} in {error}");
    }
}

fn user(name: &str, role: &str) -> String {
    let hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    format!("[[user]]\nname = \"{name}\"\nrole = \"{role}\"\npassword_hash = \"{hash}\"\n")
}

#[test]
fn the_example_is_read_and_makes_sense() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/setup/broker.example.toml");
    let settings = Source { config: Some(example), ..Source::default() }.read().unwrap();
    settings.check().unwrap();
    assert_eq!(settings.limits.max_clients, 300);
    let roles: Vec<(&str, Role)> = settings.user.iter().map(|user| (user.name.as_str(), user.role)).collect();
    assert_eq!(roles, [("anna", Role::Operator), ("homeassistant", Role::Operator), ("bridge", Role::Guest)]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let settings = check(&format!("{SITE}listen.mqtt = \"127.0.0.1:0\"\n{}", user("anna", "operator"))).unwrap();
    assert_eq!(settings.anchor.as_str(), "anchor-1");
    assert_eq!(settings.limits, Limits::default());
    assert!(!settings.access.open && !settings.listen.plain_passwords);
}

#[test]
fn values_of_the_wrong_kind_are_all_reported_at_once() {
    assert_wrong(
        "site = \"Main Street\"\nsiet = 1\n[listen]\nmqtt = \"somewhere\"\n[limits]\nmax_clients = \"many\"\n\
         [[grant]]\nrole = \"king\"\npublish = [\"a/#/b\", \"{nmae}/x\"]\n",
        &["Main Street", "siet", "somewhere", "many", "king", "a/#/b", "{nmae}/x"],
    );
}

#[test]
fn values_that_make_no_sense_are_all_reported_at_once() {
    let users =
        [user("anna", "operator"), user("anna", "guest"), user("cp-1", "device"), user("a/b", "guest")].concat();
    let settings = format!(
        "{SITE}[listen]\nmqtts = \"127.0.0.1:8883\"\nwss = \"127.0.0.1:8883\"\n[access]\nrevocations = \"r.json\"\n\
         [limits]\nmax_queued = 0\nstall_timeout_ms = 0\nheartbeat_ms = 5000\nmax_payload = 300000000\n\
         [[transformer]]\nname = \"t\"\n[[transformer]]\nname = \"t\"\ndevices = [\"t\"]\n{users}\
         [[grant]]\nto = \"a\"\nrole = \"guest\"\n[[grant]]\npublish = [\"$SYS/broker/#\"]\n"
    );
    assert_wrong(
        &settings,
        &[
            "listen.mqtts: needs a section [tls]",
            "listen.wss: needs a section [tls]",
            "listen.wss = 127.0.0.1:8883: listen.mqtts has this address already",
            "access.revocations: needs access.authority",
            "limits.max_queued = 0",
            "limits.stall_timeout_ms = 0",
            "limits.heartbeat_timeout_ms = 3000: expected more than heartbeat_ms = 5000",
            "limits.max_payload = 300000000",
            "transformer[1].name = \"t\": stands twice",
            "transformer[1].devices",
            "user[1].name = \"anna\": stands twice",
            "user[2].role = \"device\"",
            "user[3].name = \"a/b\"",
            "grant[0]: expected either",
            "grant[0]: expected topic filters",
            "grant[1]: expected either",
            "grant[1].publish = \"$SYS/broker/#\"",
        ],
    );
}

#[test]
fn a_broker_that_nobody_could_use_is_refused() {
    assert_wrong(SITE, &["listen: expected an address at mqtt, mqtts, ws or wss", "nobody could log in"]);
    // Certificates do not come over plain TCP.
    let plain = format!("{SITE}[listen]\nmqtt = \"127.0.0.1:0\"\n[access]\nauthority = \"ca.pem\"\n");
    assert_wrong(&plain, &["nobody could log in", "access.open = true"]);
}

#[test]
fn passwords_do_not_go_readable_over_the_network_unless_told_to() {
    let settings = |more: &str| {
        let listen = "mqtt = \"0.0.0.0:1883\"\nws = \"192.0.2.1:8083\"";
        format!("{SITE}[listen]\n{listen}\n{more}\n{}", user("anna", "guest"))
    };
    assert_wrong(
        &settings(""),
        &["listen.mqtt = 0.0.0.0:1883", "Use mqtts", "listen.ws = 192.0.2.1:8083", "listen.plain_passwords = true"],
    );
    check(&settings("plain_passwords = true")).unwrap();
    let loopback = format!("{SITE}[listen]\nmqtt = \"127.0.0.1:1883\"\nws = \"[::1]:80\"\n{}", user("anna", "guest"));
    check(&loopback).unwrap();
}

#[test]
fn open_is_for_loopback_unless_told_otherwise_and_plain_passwords_do_not_help() {
    let settings = |address: &str| {
        format!("{SITE}[listen]\nmqtt = \"{address}\"\nplain_passwords = true\n[access]\nopen = true\n")
    };
    check(&settings("127.0.0.1:1883")).unwrap();
    assert_wrong(&settings("0.0.0.0:1883"), &["listen.mqtt = 0.0.0.0:1883", "--open"]);
    let place = Place::with(&settings("0.0.0.0:1883"));
    Source { open: true, ..place.source() }.read().unwrap().check().unwrap();
}

#[test]
fn a_password_in_the_settings_is_refused_and_not_shown() {
    let listen = "[listen]\nmqtt = \"127.0.0.1:0\"\n";
    let settings = format!("{SITE}{listen}[[user]]\nname = \"anna\"\nrole = \"guest\"\npassword_hash = \"geheim\"\n");
    for settings in [settings.clone(), format!("{settings}password = \"geheim\"\n")] {
        let error = check(&settings).unwrap_err();
        assert!(error.contains("hash-password") && !error.contains("geheim"), "{error}");
    }
}

#[test]
fn what_the_command_line_says_goes_over_the_file() {
    let place = Place::with(&format!("{SITE}[listen]\nmqtt = \"127.0.0.1:1883\"\n[access]\nopen = true\n"));
    let listen = Some("127.0.0.1:4711".parse().unwrap());
    let settings = Source { listen, ..place.source() }.read().unwrap();
    assert_eq!(settings.listen.mqtt, listen);
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-broker"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    (status.code(), stdout, stderr)
}

#[test]
fn the_printed_settings_have_every_limit_and_no_hash_and_follow_the_environment() {
    let place = Place::with(&format!("{SITE}listen.mqtt = \"127.0.0.1:0\"\n{}", user("anna", "guest")));
    let file = place.file();
    let arguments = ["run", "--config", file.to_str().unwrap(), "--print-config"];
    let mut command = command(&arguments);
    command.env("GRID__LIMITS__MAX_CLIENTS", "377");
    let (code, printed, errors) = output(&mut command);
    assert_eq!(code, Some(0), "{errors}");
    let printed: toml::Table = printed.parse().unwrap();
    let expected = toml::Table::try_from(Limits { max_clients: 377, ..Limits::default() }).unwrap();
    assert_eq!(printed["limits"].as_table().unwrap(), &expected);
    assert!(expected.contains_key("connect_timeout_ms") && expected.contains_key("window"));
    assert_eq!(printed["user"][0]["password_hash"].as_str(), Some("(not shown)"));
}

#[test]
fn wrong_settings_and_files_end_the_program_with_2_before_it_listens() {
    let settings = format!(
        "{SITE}[listen]\nmqtt = \"0.0.0.0:0\"\n[access]\nauthority = \"/nowhere/ca.pem\"\n{}",
        user("a b", "guest")
    );
    let place = Place::with(&settings);
    let (code, _, errors) = output(&mut command(&["run", "--config", place.file().to_str().unwrap()]));
    assert_eq!(code, Some(2));
    for named in ["listen.mqtt = 0.0.0.0:0", "/nowhere/ca.pem", "user[0].name"] {
        assert!(errors.contains(named), "{named} in {errors}");
    }
    assert!(!errors.contains("listening"), "{errors}");
}

#[tokio::test]
async fn hash_password_prints_what_the_settings_need() {
    let hash = |password: &str| {
        let mut program = command(&["hash-password"]).spawn().unwrap();
        program.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        program.wait_with_output().unwrap()
    };
    let Output { status, stdout, .. } = hash("ge heim\r\nanother line\n");
    assert!(status.success());
    let printed = String::from_utf8(stdout).unwrap();
    let hash_of_it = PasswordHash::from(printed.trim_end().to_owned());
    hash_of_it.check().unwrap();
    assert!(hash_of_it.is_of(b"ge heim".to_vec()).await);
    assert_eq!(hash("\n").status.code(), Some(2));
    let (code, help, _) = output(&mut command(&["hash-password", "--help"]));
    assert_eq!(code, Some(0));
    assert!(help.contains("grid-broker hash-password < password.txt"), "{help}");
}

/// A broker that runs until it is dropped, and its log.
struct Program {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Program {
    fn start(settings: &Path) -> Self {
        let mut child = command(&["run", "--config", settings.to_str().unwrap()]).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut program = Self { child, log };
        program.until("listening on");
        program
    }

    /// Waits for a line with this text, and returns what was logged up to it.
    fn until(&mut self, text: &str) -> String {
        let mut read = String::new();
        for line in self.log.by_ref() {
            let line = line.unwrap();
            read.push_str(&line);
            read.push('\n');
            if line.contains(text) {
                return read;
            }
        }
        panic!("{text:?} did not come: {read}");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn at_sighup_the_program_reads_again_and_bad_settings_change_nothing() {
    let settings = |users: &str| format!("{SITE}[listen]\nmqtt = \"127.0.0.1:0\"\n{users}");
    let place = Place::with(&settings(&user("anna", "guest")));
    let mut program = Program::start(&place.file());
    place.write(&settings(&[user("a b", "guest"), user("c d", "guest")].concat()));
    program.signal("-HUP");
    let said = program.until("user[1].name = \"c d\"");
    assert!(said.contains("not reloaded") && said.contains("user[0].name = \"a b\""), "{said}");
    place.write(&format!("{}[limits]\nmax_clients = 377\n", settings(&user("berta", "guest"))));
    program.signal("-HUP");
    let said = program.until("are reloaded");
    assert!(said.contains("from the next start"), "{said}");
    program.signal("-TERM");
    program.until("stopped");
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_list_of_revocations_that_appears_is_read_within_seconds() {
    let issuer = Issuer::create(&"s".parse().unwrap(), unix_now()).unwrap();
    let place = Place::with("");
    let [authority, revocations] = ["ca.pem", "revoked.json"].map(|name| place.folder.path().join(name));
    fs::write(&authority, issuer.certificate_pem()).unwrap();
    place.write(&format!(
        "{SITE}[listen]\nmqtt = \"127.0.0.1:0\"\n[access]\nauthority = {authority:?}\nrevocations = {revocations:?}\n{}",
        user("anna", "guest")
    ));
    let mut program = Program::start(&place.file());
    let header = Header { from: revocation::authority_name(), session: Session(1), seq: Some(1), time_ms: unix_now() };
    let list = Message { header, body: Revocations::default() };
    fs::write(&revocations, revocation::write(&list, &issuer).unwrap()).unwrap();
    let start = Instant::now();
    program.until("are reloaded");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

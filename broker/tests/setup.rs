//! `grid-broker setup` and `check` as a person and a script use them, below a folder of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod machine;
#[path = "../../agent/service/tests/program/mod.rs"]
mod program;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use grid_protocol::identity::{Bundle, brokers_in};
use machine::{BINARY, Machine, PASSWORD, SCRIPT, free};
use program::{Conversation, Done};

#[test]
fn a_script_sets_a_site_up_and_nothing_changes_when_it_does_so_again() {
    let machine = Machine::new();
    machine.setup(&SCRIPT).says(
        0,
        &["grid-broker ca issue trafo-1 --role transformer", "grid-agent setup cp-1.bundle", "-h broker.local -p 8883"],
    );
    let settings = machine.settings();
    settings.check().unwrap();
    assert_eq!(settings.site.as_str(), "main-street");
    let [anna] = settings.user.as_slice() else { panic!("{settings:?}") };
    assert!(anna.name == "anna" && anna.password_hash.matches(PASSWORD.as_bytes()));
    assert!(settings.grant.is_empty(), "there is no Home Assistant");
    let text = fs::read_to_string(machine.at("etc/grid/broker.toml")).unwrap();
    assert!(text.contains("# Agents and anchor come here with their certificates"), "comments stay: {text}");

    assert_eq!(machine.mode("var/lib/grid/ca/ca.key") | machine.mode("etc/grid/broker.key"), 0o600);
    assert_eq!(machine.mode("etc/grid/broker.toml"), 0o600, "there is no group of the service");
    assert_eq!(machine.mode("var/lib/grid/ca/revoked.json"), 0o644);
    assert_eq!(machine.mode("var/lib/grid/ca"), 0o755);

    let before = machine.everything();
    machine.setup(&SCRIPT).says(0, &["unchanged"]);
    machine.setup(&[]).says(0, &["unchanged"]);
    assert!(machine.everything() == before, "nothing changes");
}

#[test]
fn without_a_terminal_what_has_no_default_is_named_and_a_password_is_made_up_and_shown_once() {
    let machine = Machine::new();
    machine.setup(&[]).says(2, &["--site"]);
    assert!(!machine.at("").exists(), "nothing was written");
    let done = machine.setup(&["--site", "demo", "--home-assistant"]);
    done.says(0, &["The password of operator is ", "The password of homeassistant is "]);
    let password = |user: &str| {
        let after = done.text.split(&format!("The password of {user} is ")).nth(1).unwrap();
        after.split(',').next().unwrap().to_owned()
    };
    let settings = machine.settings();
    for user in ["operator", "homeassistant"] {
        let there = settings.user.iter().find(|there| there.name == user).unwrap();
        assert!(there.password_hash.matches(password(user).as_bytes()));
    }
    let grants: Vec<_> = settings.grant.iter().map(|grant| grant.to.as_deref()).collect();
    assert_eq!(grants, [Some("homeassistant"), None, None], "Home Assistant's, and what agents may say to it");
    assert!(!machine.setup(&[]).text.contains("The password of"), "that was once");
}

#[test]
fn wrong_answers_are_named_and_nothing_is_written() {
    let machine = Machine::new();
    for (wrong, named) in [
        (vec!["--site", "Main Street"], "Main Street"),
        (vec!["--host", "a b"], "a b"),
        (vec!["--port", "70000"], "70000"),
        (vec!["--operator", "a/b"], "a/b"),
        (vec!["--operator", "homeassistant", "--home-assistant"], "homeassistant"),
        (vec!["--password-file", "nowhere"], "nowhere"),
        (vec!["--local-port", "8883"], "8883"),
        (vec!["--transformer", "T"], "T"),
        (vec!["--home-assistant-password-file", "password"], "--home-assistant"),
    ] {
        let site: &[&str] = if wrong[0] == "--site" { &[] } else { &["--site", "demo"] };
        machine.setup(&[site, &wrong].concat()).says(2, &[named]);
    }
    assert!(!machine.at("").exists());
}

#[test]
fn what_is_there_and_says_otherwise_stays_and_is_told() {
    let machine = Machine::new();
    machine.setup(&SCRIPT).says(0, &[]);
    let before = machine.everything();
    machine.setup(&["--site", "elsewhere"]).says(2, &["main-street", "elsewhere"]);
    fs::write(machine.0.path().join("other"), "another\n").unwrap();
    machine
        .setup(&["--port", "8899", "--operator", "bert", "--password-file", "other", "--transformer", "trafo-2"])
        .says(
            2,
            &[
                "the port of listen.mqtts is 8883, not 8899",
                "there is no [[user]] \"bert\"",
                "transformer is \"trafo-1\", not \"trafo-2\"",
                "Nothing was changed",
            ],
        );
    machine.setup(&["--password-file", "other"]).says(2, &["the password of anna is another"]);
    assert!(machine.everything() == before, "nothing changes");

    // A person's own settings stay, too.
    let config = machine.at("etc/grid/broker.toml");
    let own = fs::read_to_string(&config).unwrap() + "\n[[grant]]\nto = \"anna\"\npublish = [\"lamp/#\"]\n";
    fs::write(&config, &own).unwrap();
    machine.setup(&SCRIPT).says(0, &["unchanged"]);
    assert_eq!(fs::read_to_string(&config).unwrap(), own);

    fs::write(machine.at("etc/grid/ca.pem"), "another\n").unwrap();
    machine.setup(&SCRIPT).says(2, &["ca.pem is another authority's"]);
    fs::remove_dir_all(machine.at("var")).unwrap();
    machine.setup(&SCRIPT).says(2, &["ca.pem is another authority's"]);
    assert!(!machine.at("var").exists(), "no authority was made");
}

#[test]
fn other_hosts_get_the_broker_another_certificate_of_the_same_authority() {
    let machine = Machine::new();
    machine.setup(&SCRIPT).says(0, &[]);
    let authority = fs::read(machine.at("etc/grid/ca.pem")).unwrap();
    let certificate = fs::read(machine.at("etc/grid/broker.pem")).unwrap();
    machine.setup(&["--host", "192.0.2.7"]).says(0, &["for 192.0.2.7", "-h 192.0.2.7"]);
    assert_eq!(fs::read(machine.at("etc/grid/ca.pem")).unwrap(), authority);
    assert_ne!(fs::read(machine.at("etc/grid/broker.pem")).unwrap(), certificate);
    machine.setup(&[]).says(0, &["unchanged"]);
}

#[test]
fn a_bundle_says_where_the_broker_is() {
    let machine = Machine::new();
    machine.setup(&[&SCRIPT[..], &["--port", "8899"]].concat()).says(0, &[]);
    let ca = machine.at("var/lib/grid/ca");
    let issue = |name: &str, more: &[&str]| {
        let arguments = ["ca", "issue", name, "--role", "device", "--dir", ca.to_str().unwrap()];
        machine.does(&[&arguments, more].concat()).says(0, &[]);
        fs::read_to_string(machine.0.path().join(format!("{name}.bundle"))).unwrap()
    };
    let bundle = issue("cp-1", &[]);
    assert_eq!(brokers_in(&bundle), ["broker.local:8899".parse().unwrap()], "and not localhost: {bundle}");
    assert!(Bundle::read(bundle.as_bytes()).is_ok());
    assert_eq!(brokers_in(&issue("cp-2", &["--port", "1"])), ["broker.local:1".parse().unwrap()]);
}

#[test]
fn a_person_is_asked_and_may_answer_wrongly_first() {
    let machine = Machine::new();
    let mut setup = Conversation::begin(BINARY, machine.0.path(), "setup --root machine");
    // The wrong name is told before it is asked for again.
    setup.answers(&[
        ("The site's name", "Main Street"),
        ("The site's name", "main-street"),
        ("Names and addresses", "broker.local, 192.0.2.7"),
        ("The port", ""),
        ("The transformer's name [trafo-1]", ""),
        ("The anchor's name [anchor-1]", ""),
        ("Who reads everything", "anna"),
        ("Password of anna", "one"),
        ("The same again", "two"),
        ("Password of anna", PASSWORD),
        ("The same again", PASSWORD),
        ("Home Assistant", "n"),
    ]);
    setup.hears("is set up");
    assert_eq!(setup.ends().code(), Some(0));
    let settings = machine.settings();
    assert_eq!((settings.site.as_str(), settings.user.len()), ("main-street", 1));
    assert!(settings.user[0].password_hash.matches(PASSWORD.as_bytes()));
}

#[test]
fn the_broker_serves_what_was_set_up_and_check_says_so() {
    let machine = Machine::new();
    machine.setup(&SCRIPT).says(0, &[]);
    let addresses = free();
    let mqtts = addresses[1].1;
    machine
        .check_with(&addresses)
        .says(0, &["ok     settings", "broker.pem: for broker.local, localhost", "is free: the broker does not run"]);
    let _broker = machine.start(&addresses);
    machine.check_with(&addresses).says(0, &["/healthz says ok", "answers with the certificate of the settings"]);

    machine.issue("cp-1", "device");
    let client = |program, arguments: &[&str]| Done::of(&mut machine.client(program, mqtts.port(), arguments));
    let bundle = ["--cafile", "cp-1.bundle", "--cert", "cp-1.bundle", "--key", "cp-1.bundle", "-i", "cp-1"];
    let said = ["-q", "1", "-r", "-t", "grid/main-street/cp-1/status", "-m", "here"];
    client("mosquitto_pub", &[&bundle[..], &said].concat()).says(0, &[]);
    let anna =
        ["--cafile", "machine/etc/grid/ca.pem", "-u", "anna", "-P", PASSWORD, "-t", "grid/main-street/cp-1/status"];
    client("mosquitto_sub", &[&anna[..], &["-C", "1", "-W", "20"]].concat()).says(0, &["here"]);

    // A certificate that the running broker does not have yet.
    machine.setup(&["--host", "localhost"]).says(0, &[]);
    machine.check_with(&addresses).says(1, &["WRONG  listen.mqtts", "another certificate"]);
}

#[test]
fn check_names_what_is_wrong_and_what_to_do() {
    let machine = Machine::new();
    machine.check().says(2, &["broker.toml"]);
    machine.setup(&SCRIPT).says(0, &[]);
    let addresses = free();
    let taken = TcpListener::bind(addresses[0].1).unwrap();
    let set_mode = |path: &str, mode| {
        fs::set_permissions(machine.at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode("etc/grid/broker.key", 0o644);
    set_mode("etc/grid/broker.toml", 0o644);
    set_mode("var/lib/grid/ca", 0o700);
    fs::write(machine.at("var/lib/grid/ca/revoked.json"), "{}").unwrap();
    machine.check_with(&addresses).says(
        1,
        &[
            "WRONG  tls key         ",
            "chmod 600",
            "WRONG  settings        ",
            "chmod 640",
            "WRONG  revocations     ",
            "chmod 755",
            "WRONG  listen.mqtt     ",
            "is taken, and not by this broker",
        ],
    );
    drop(taken);
    set_mode("etc/grid/broker.key", 0o600);
    copy_certificate_of_another_site(&machine);
    machine.check_with(&addresses).says(
        1,
        &["the site's authority did not issue it", "does not go with tls.certificate", "grid-broker ca issue-server"],
    );
    fs::write(machine.at("etc/grid/broker.toml"), "site = \"main-street\"\n[listen]\nmqtt = \"nowhere\"\n").unwrap();
    machine.check().says(2, &["nowhere"]);
}

fn copy_certificate_of_another_site(machine: &Machine) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ca");
    machine.does(&["ca", "init", "--site", "other", "--dir", dir.to_str().unwrap()]).says(0, &[]);
    let copy = |from: &Path, to: &str| fs::copy(from, machine.at(to)).unwrap();
    copy(&dir.join("broker.pem"), "etc/grid/broker.pem");
}

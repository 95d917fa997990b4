//! Who may say and hear what, over MQTT: refusals as each version says them, and a reload that drops nobody who may stay.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::PathBuf;

use grid_broker::{Limits, PasswordHash, Reload, Source};
use support::*;
use tokio::net::TcpListener;

/// A broker with two operators, a guest and a grant, which can be told to read its settings again.
struct Site {
    broker: Broker,
    reload: Reload,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

const SETTINGS: &str = "site = \"s\"\nlisten.mqtt = \"127.0.0.1:0\"\n[[transformer]]\nname = \"trafo-1\"\n\
                        [[grant]]\nto = \"anna\"\npublish = [\"homeassistant/#\"]\nsubscribe = [\"homeassistant/#\"]\n";

fn user(name: &str, role: &str, password: &str) -> String {
    let hash = PasswordHash::create(password.as_bytes()).unwrap();
    format!("[[user]]\nname = \"{name}\"\nrole = \"{role}\"\npassword_hash = \"{}\"\n", hash.as_str())
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broker.toml");
        let users = [user("anna", "operator", "a"), user("bert", "operator", "b"), user("gast", "guest", "g")];
        fs::write(&file, [SETTINGS, &users.concat()].concat()).unwrap();
        let source = Source { config: Some(file.clone()), ..Source::default() };
        let settings = source.read().unwrap();
        let (reload, access) = Reload::start(source, settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let broker = Broker::start_at(listener.into(), address, Limits::default(), access).await;
        Self { broker, reload, file, _folder: folder }
    }

    async fn v3(&self, user: &str, password: &str, id: &str) -> Raw {
        let mut client = self.broker.raw().await;
        client.send(&connect_with_password(4, user, password, id, None)).await;
        client.expect("20020000").await;
        client
    }

    async fn v5(&self, user: &str, password: &str, id: &str) -> Raw {
        let mut client = self.broker.raw().await;
        client.send(&connect_with_password(5, user, password, id, None)).await;
        let connack = client.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        client
    }
}

#[tokio::test]
async fn who_cannot_say_who_he_is_is_told_so_and_stays_out() {
    let site = Site::start().await;
    for (user, password) in [("anna", "b"), ("nobody", "a")] {
        let mut old = site.broker.raw().await;
        old.send(&connect_with_password(4, user, password, "x", None)).await;
        old.expect("20020004").await;
        old.expect_close().await;
        let mut new = site.broker.raw().await;
        new.send(&connect_with_password(5, user, password, "x", None)).await;
        assert_eq!(new.packet().await[3], 0x86);
        new.expect_close().await;
    }
    let mut nameless = site.broker.raw().await;
    nameless.send(&connect_v3("x", 0)).await;
    nameless.expect("20020005").await;
    nameless.expect_close().await;
    site.broker.stop().await;
}

#[tokio::test]
async fn a_publish_that_is_not_allowed_reaches_nobody_and_is_answered_as_the_version_says() {
    let site = Site::start().await;
    let mut witness = site.v3("bert", "b", "w").await;
    witness.subscribe("#", 1).await;
    let mut old = site.v3("anna", "a", "old").await;
    let mut new = site.v5("anna", "a", "new").await;
    for topic in ["grid/s/cp-1/status", "$SYS/broker/uptime", "elsewhere"] {
        // 3.1.1 has no way to say no.
        old.send(&publish_v3(topic, b"x", 1, true, 1)).await;
        old.expect("40020001").await;
        old.send(&publish_v3(topic, b"x", 2, false, 2)).await;
        old.expect("50020002").await;
        old.send_hex("62020002").await;
        old.expect("70020002").await;
        new.send(&publish_v5(topic, &[], b"x", 1, true, 1)).await;
        new.expect("4003 0001 87").await;
        new.send(&publish_v5(topic, &[], b"x", 2, false, 2)).await;
        new.expect("5003 0002 87").await;
        // At QoS 0 nobody is told; the client may go on.
        new.send(&publish_v5(topic, &[], b"x", 0, false, 0)).await;
        new.expect_silence().await;
    }
    witness.expect_silence().await;
    new.send(&publish_v5("grid/s/cp-1/set/charging", &[], b"OFF", 1, false, 3)).await;
    new.expect("40020003").await;
    assert_eq!(witness.packet().await, publish_v3("grid/s/cp-1/set/charging", b"OFF", 1, false, 1));
    // What was not allowed is not kept either.
    let mut late = site.v3("bert", "b", "late").await;
    late.subscribe("#", 0).await;
    late.expect_silence().await;
    site.broker.stop().await;
}

#[tokio::test]
async fn a_guest_hears_of_the_transformer_only_whatever_it_subscribes_to() {
    let site = Site::start().await;
    let mut old = site.v3("gast", "g", "old").await;
    old.send(&subscribe_v3("grid/s/cp-1/measurement", 0)).await;
    old.expect("9003000180").await;
    let mut new = site.v5("gast", "g", "new").await;
    new.send(&subscribe_v5("grid/s/cp-1/measurement", 0)).await;
    new.expect("9004000100 87").await;
    // It may hear some of this, and gets just that.
    old.subscribe("grid/#", 0).await;
    let mut anna = site.v3("anna", "a", "anna").await;
    for device in ["cp-1", "trafo-1"] {
        anna.send(&publish_v3(&format!("grid/s/{device}/set/limit"), b"1", 1, false, 1)).await;
        anna.expect("40020001").await;
    }
    assert_eq!(old.packet().await, publish_v3("grid/s/trafo-1/set/limit", b"1", 0, false, 0));
    old.expect_silence().await;
    site.broker.stop().await;
}

#[tokio::test]
async fn each_message_says_who_published_it_and_nobody_can_say_he_is_another() {
    let site = Site::start().await;
    let mut reader = site.v5("bert", "b", "r").await;
    reader.subscribe_v5("grid/s/+/set/+", 0).await;
    let anna = bytes("26 0009 7075626c6973686572 0004 616e6e61");
    let forged = bytes("26 0009 7075626c6973686572 0004 62657274");
    let mut old = site.v3("anna", "a", "old").await;
    old.send(&publish_v3("grid/s/cp-1/set/charging", b"ON", 0, false, 0)).await;
    assert_eq!(reader.packet().await, publish_v5("grid/s/cp-1/set/charging", &anna, b"ON", 0, false, 0));
    let mut new = site.v5("anna", "a", "new").await;
    new.send(&publish_v5("grid/s/cp-1/set/charging", &forged, b"ON", 0, false, 0)).await;
    assert_eq!(reader.packet().await, publish_v5("grid/s/cp-1/set/charging", &anna, b"ON", 0, false, 0));
    site.broker.stop().await;
}

#[tokio::test]
async fn a_will_that_is_not_allowed_is_refused_with_the_login() {
    let site = Site::start().await;
    for (version, refusal) in [(4, vec![0x20, 2, 0, 5]), (5, vec![])] {
        let mut client = site.broker.raw().await;
        client.send(&connect_with_password(version, "anna", "a", "x", Some("grid/s/cp-1/status"))).await;
        let connack = client.packet().await;
        if version == 4 {
            assert_eq!(connack, refusal);
        } else {
            assert_eq!(connack[3], 0x87);
        }
        client.expect_close().await;
    }
    let mut client = site.broker.raw().await;
    client.send(&connect_with_password(4, "anna", "a", "x", Some("homeassistant/x"))).await;
    client.expect("20020000").await;
    site.broker.stop().await;
}

#[tokio::test]
async fn nobody_takes_over_the_session_of_another_by_its_client_id() {
    let site = Site::start().await;
    let mut anna = site.v3("anna", "a", "same").await;
    let mut bert = site.v3("bert", "b", "same").await;
    anna.expect_silence().await;
    bert.expect_silence().await;
    let mut again = site.v3("anna", "a", "same").await;
    anna.expect_close().await;
    again.expect_silence().await;
    bert.expect_silence().await;
    site.broker.stop().await;
}

#[tokio::test]
async fn a_reload_cuts_off_who_was_removed_and_leaves_the_others_with_their_new_rights() {
    let mut site = Site::start().await;
    let mut anna = site.v5("anna", "a", "anna").await;
    anna.subscribe_v5("homeassistant/x", 1).await;
    anna.send(&subscribe_v5("grid/#", 0)).await;
    assert_eq!(anna.packet().await.last(), Some(&0));
    let mut bert = site.v5("bert", "b", "bert").await;
    // anna becomes a guest and loses nothing else; bert is gone.
    fs::write(&site.file, [SETTINGS, &user("gast", "guest", "g")].concat()).unwrap();
    let before = fs::read_to_string(&site.file).unwrap();
    assert!(site.reload.reload());
    bert.expect_disconnect(0x87).await;
    bert.expect_close().await;
    anna.expect_disconnect(0x87).await;
    fs::write(&site.file, [&before, &user("anna", "operator", "a")[..]].concat()).unwrap();
    assert!(site.reload.reload());
    let mut anna = site.v5("anna", "a", "anna").await;
    let mut gast = site.v3("gast", "g", "gast").await;
    gast.subscribe("grid/s/#", 0).await;
    // Another transformer: whoever stays hears of that one from now on.
    let changed = fs::read_to_string(&site.file).unwrap().replace("trafo-1", "trafo-2");
    fs::write(&site.file, changed).unwrap();
    assert!(site.reload.reload());
    for (device, id) in [("trafo-1", 1), ("trafo-2", 2)] {
        anna.send(&publish_v5(&format!("grid/s/{device}/set/limit"), &[], b"1", 1, false, id)).await;
        anna.expect(&format!("4002{id:04x}")).await;
    }
    assert_eq!(gast.packet().await, publish_v3("grid/s/trafo-2/set/limit", b"1", 0, false, 0));
    gast.expect_silence().await;
    // Settings that are wrong change nothing.
    fs::write(&site.file, "site = 1").unwrap();
    assert!(!site.reload.reload());
    anna.expect_silence().await;
    gast.expect_silence().await;
    site.broker.stop().await;
}

#[tokio::test]
async fn a_last_will_is_not_published_for_who_was_removed() {
    let mut site = Site::start().await;
    let mut bert = site.v3("bert", "b", "bert").await;
    bert.subscribe("homeassistant/x", 0).await;
    let mut anna = site.broker.raw().await;
    anna.send(&connect_with_password(4, "anna", "a", "x", Some("homeassistant/x"))).await;
    anna.expect("20020000").await;
    let kept = fs::read_to_string(&site.file).unwrap();
    let without = kept.split("[[user]]").filter(|part| !part.contains("name = \"anna\"\nrole"));
    fs::write(&site.file, without.collect::<Vec<_>>().join("[[user]]")).unwrap();
    assert!(site.reload.reload());
    anna.expect_close().await;
    bert.expect_silence().await;
    site.broker.stop().await;
}

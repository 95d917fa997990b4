//! The street on a broker that others wrote: a mosquitto.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use grid::demo::{Broker, Demo, Report};
use grid_anchor::policy::Policy;
use grid_anchor::verify::verify_log;
use grid_protocol::topic::Name;
use support::mosquitto::Mosquitto;
use support::{all_cars_charge, breaks_no_rule_and_loses_no_message, start_on, until};
use tokio::time::sleep;

fn running(mosquitto: &Mosquitto) -> Broker {
    Broker::Running(mosquitto.address().to_string())
}

/// A whole day, which must come out as on our own broker. Returns how much that nobody vouches for is in its log.
async fn day(demo: Demo, run: &Path) -> u64 {
    demo.day_is_over().await;
    let report = demo.finish().await.unwrap();
    let Report { limit_w, messages_published, messages_logged, records_on_ledger, .. } = report;
    assert!(report.holds(), "{report:?}");
    assert_eq!(messages_logged, messages_published);
    assert!(messages_published > 100 && records_on_ledger >= 2, "{report:?}");
    // Nothing rises here but the cars, so there is no excess that control may take time to follow.
    assert!(report.peak_w <= limit_w && report.over_limit_ms == 0, "{report:?}");
    assert!(report.sessions.iter().all(|session| session.delivered_wh > 0), "{report:?}");
    let policy = Policy::read(&std::fs::read_to_string(run.join("site.policy")).unwrap()).unwrap();
    verify_log(&run.join("log"), Some(&policy)).unwrap().messages.unverified
}

/// Cuts the power of all that speak.
async fn die(mut demo: Demo) {
    for name in ["trafo-1", "cp-1", "cp-2"] {
        assert!(demo.kill(&name.parse::<Name>().unwrap()));
    }
    demo.kill_anchor().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_street_on_a_mosquitto_holds_and_leaves_nothing_there_and_what_one_that_died_left_confuses_nobody() {
    let mosquitto = Mosquitto::start();
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| folder.path().join(name);

    let demo = start_on(running(&mosquitto), &run("first")).await.unwrap();
    until("both cars charge", || all_cars_charge(&demo)).await;
    let second = start_on(running(&mosquitto), &run("beside the first")).await;
    let refusal = second.err().unwrap().to_string();
    assert!(refusal.contains(&mosquitto.address().to_string()) && refusal.contains("already"), "{refusal}");
    assert!(!run("beside the first").exists());
    assert_eq!(day(demo, &run("first")).await, 0);
    assert_eq!(mosquitto.retained(), Vec::<String>::new());

    let demo = start_on(running(&mosquitto), &run("dies")).await.unwrap();
    let checkpoint = "grid/demo/anchor-1/checkpoint".to_owned();
    until("the anchor has said a checkpoint", || mosquitto.retained().contains(&checkpoint)).await;
    die(demo).await;
    let mut left = mosquitto.retained();
    left.sort();
    let expected = ["anchor-1/checkpoint", "anchor-1/status", "cp-1/status", "cp-2/status", "trafo-1/balance"];
    let expected = expected.into_iter().chain(["trafo-1/status"]).map(|topic| format!("grid/demo/{topic}"));
    assert_eq!(left, expected.collect::<Vec<_>>());

    let demo = start_on(running(&mosquitto), &run("after it")).await.unwrap();
    // The anchor's log has what it still found there as what nobody vouches for: its own two at least, since the others
    // may have replaced theirs before it looked.
    let unverified = day(demo, &run("after it")).await;
    assert!((2..=left.len() as u64).contains(&unverified), "{unverified}");
    assert_eq!(mosquitto.retained(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mosquitto_that_is_killed_and_comes_back_breaks_no_rule_and_loses_no_message() {
    let mut mosquitto = Mosquitto::start();
    let folder = tempfile::tempdir().unwrap();
    let demo = start_on(running(&mosquitto), &folder.path().join("run")).await.unwrap();
    breaks_no_rule_and_loses_no_message(demo, async |_, pause| {
        mosquitto.kill();
        sleep(pause).await;
        mosquitto.start_again();
    })
    .await;
}

/// What the program says about a broker that it cannot use, before anything starts.
fn refused(broker: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_grid"))
        .args(["--headless", "--duration", "60s", "--broker", broker, "--data-dir"])
        .arg(&run)
        .output()
        .unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(!run.exists());
    String::from_utf8(stderr).unwrap()
}

#[test]
fn a_broker_that_is_not_there_is_named_and_nothing_starts() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let said = refused(&address);
    assert!(said.contains(&address) && said.contains("refused"), "{said}");
}

#[test]
fn a_broker_that_asks_for_a_login_is_named_and_nothing_starts() {
    let mosquitto = Mosquitto::start_with("allow_anonymous false");
    let address = mosquitto.address().to_string();
    let said = refused(&address);
    assert!(said.contains(&address) && said.contains("NotAuthorized"), "{said}");
}

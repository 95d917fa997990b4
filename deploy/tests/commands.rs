//! Commands as a person gives them: with `mosquitto_pub`.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use grid::demo::Demo;
use grid::plant::wires::lock;
use grid_protocol::units::MilliAmps;
use serde_json::Value;
use support::{MosquittoSub, start};
use tokio::time::sleep;

fn command(broker: SocketAddr, topic: &str, value: &str, more: &[&str]) {
    let (host, port) = (broker.ip().to_string(), broker.port().to_string());
    let topic = format!("grid/demo/{topic}");
    let sent = Command::new("mosquitto_pub")
        .args(["-h", &host, "-p", &port, "-t", &topic, "-m", value, "-q", "1"])
        .args(more)
        .status()
        .unwrap();
    assert!(sent.success());
}

/// The next event of this kind.
async fn told(events: &mut MosquittoSub, kind: &str) -> Value {
    loop {
        let (_, event) = events.next().await;
        if event["event"] == kind {
            return event;
        }
    }
}

fn currents(demo: &Demo) -> Vec<i64> {
    demo.progress();
    let plant = lock(demo.plant());
    plant.charge_points().map(|id| plant.current(id).0).collect()
}

async fn until(what: &str, demo: &Demo, mut holds: impl FnMut(&[i64]) -> bool) {
    for _ in 0..4_000 {
        if holds(&currents(demo)) {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("waited too long until {what}: {:?}", currents(demo));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_change_limit_priority_and_dimming_and_switch_devices_off_while_the_street_runs() {
    let folder = tempfile::tempdir().unwrap();
    let demo = start(&folder.path().join("run")).await;
    let broker = demo.address();
    let mut events = MosquittoSub::start(broker, "grid/demo/+/event");
    // 40 kW less 20 kW and 2 % leave 27.8 A a phase for two.
    until("both cars share", &demo, |currents| currents.iter().all(|current| (13_000..15_000).contains(current))).await;

    command(broker, "trafo-1/set/limit", "34000", &[]);
    let event = told(&mut events, "limit_changed").await;
    assert_eq!((&event["old_w"], &event["new_w"], &event["by"]), (&40_000.into(), &34_000.into(), &"unknown".into()));
    until("both give way", &demo, |currents| currents.iter().all(|current| (9_000..10_300).contains(current))).await;
    assert_eq!(lock(demo.plant()).transformer_limit(), MilliAmps(49_275));

    command(broker, "cp-2/set/priority", "0", &[]);
    let event = told(&mut events, "priority_changed").await;
    assert_eq!((&event["from"], &event["old"], &event["new"]), (&"cp-2".into(), &5.into(), &0.into()));
    until("the second goes first", &demo, |currents| currents[0] == 0 && currents[1] > 18_000).await;

    command(broker, "cp-2/set/charging", "OFF", &[]);
    let event = told(&mut events, "charging_changed").await;
    assert_eq!((&event["old"], &event["new"]), (&true.into(), &false.into()));
    until("the first has it all", &demo, |currents| currents[0] > 18_000 && currents[1] == 0).await;

    command(broker, "trafo-1/set/limit", "40000", &[]);
    command(broker, "cp-2/set/charging", "ON", &[]);
    command(broker, "cp-2/set/priority", "5", &[]);
    until("both share again", &demo, |currents| currents.iter().all(|current| (13_000..15_000).contains(current)))
        .await;
    // The day is the first of January 2024.
    command(broker, "trafo-1/set/dimming", "9000 until 2024-01-01T23:00:00Z", &[]);
    assert_eq!(told(&mut events, "dimming_changed").await["new_w"], 9_000);
    until("both are dimmed", &demo, |currents| currents.iter().all(|current| (6_300..6_600).contains(current))).await;
    command(broker, "trafo-1/set/dimming", "OFF", &[]);
    until("both share again", &demo, |currents| currents.iter().all(|current| (13_000..15_000).contains(current)))
        .await;

    let report = demo.finish().await.unwrap();
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.messages_logged, report.messages_published);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_obeyed_is_refused_in_words_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let demo = start(&folder.path().join("run")).await;
    let broker = demo.address();
    let mut events = MosquittoSub::start(broker, "grid/demo/+/event");
    until("both cars share", &demo, |currents| currents.iter().all(|current| (13_000..15_000).contains(current))).await;
    for (topic, value, more, expected) in [
        ("trafo-1/set/limit", "41000", &[][..], "watts, 1000 to 40000, which is what is configured"),
        ("trafo-1/set/limit", "-5", &[], "watts, 1000 to 10000000"),
        ("trafo-1/set/limit", "30000", &["-r"], "a command that is not retained"),
        ("trafo-1/set/dimming", "9000 until 2023-01-01T00:00:00Z", &[], "an end in the future"),
        ("cp-1/set/charging", "off", &[], "ON or OFF"),
        ("cp-1/set/priority", "10", &[], "0 to 9"),
        ("cp-1/set/limit", "5000", &[], "set/charging or set/priority"),
    ] {
        command(broker, topic, value, more);
        let event = told(&mut events, "command_ignored").await;
        assert_eq!(event["value"], value);
        assert!(event["expected"].as_str().unwrap().contains(expected), "{event}");
    }
    assert!(currents(&demo).iter().all(|current| (13_000..15_000).contains(current)));
    let report = demo.finish().await.unwrap();
    assert!(report.holds(), "{report:?}");
}

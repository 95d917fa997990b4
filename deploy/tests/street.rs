//! Whole streets, looked at from outside.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use grid::demo::MOCK_STATE;
use grid::plant::wires::lock;
use grid_anchor::policy::Policy;
use grid_ledger::{Endpoints, TrailReader, mock};
use grid_protocol::units::MilliAmps;
use serde_json::{Map, Value};
use support::{MosquittoSub, breaks_no_rule_and_loses_no_message, current, own_broker, start, start_on, until};
use tokio::time::sleep;

fn golden(kind: &str) -> Map<String, Value> {
    let file = format!("{}/../protocol/tests/golden/{kind}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Holds a message against the golden example of its kind: the same members of the same types.
fn assert_like_golden(kind: &str, message: &Map<String, Value>) {
    let golden = golden(kind);
    // What only a device without a lease leaves out, and what only simulations and signatures add.
    let optional = ["obeys"];
    let added = ["plant_time_ms", "sig"];
    for (key, example) in &golden {
        match message.get(key) {
            Some(value) => assert_eq!(
                std::mem::discriminant(value),
                std::mem::discriminant(example),
                "{kind}: {key} is {value}, in the golden example {example}"
            ),
            None => assert!(optional.contains(&key.as_str()), "{kind}: {key} is missing in {message:?}"),
        }
    }
    for key in message.keys() {
        assert!(golden.contains_key(key) || added.contains(&key.as_str()), "{kind}: nobody promised {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_sub_sees_the_messages_that_the_golden_examples_promise() {
    let folder = tempfile::tempdir().unwrap();
    let demo = start(&folder.path().join("run")).await;
    let mut client = MosquittoSub::start(demo.address(), "grid/#");
    let wanted = ["status", "measurement", "setpoint", "balance", "event", "ack", "checkpoint"];
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    while wanted.iter().any(|kind| !seen.contains_key(kind)) {
        let (topic, message) = client.next().await;
        let Value::Object(message) = message else { panic!("{topic} carries no object") };
        let mut parts = topic.split('/');
        assert_eq!((parts.next(), parts.next()), (Some("grid"), Some("demo")));
        let device = parts.next().unwrap();
        let kind = parts.next().unwrap();
        let signature = message["sig"].as_str().unwrap();
        assert_eq!(signature.len(), 86);
        match kind {
            "measurement" | "setpoint" | "balance" | "ack" => assert_like_golden(kind, &message),
            "status" if device.starts_with("cp-") => assert_like_golden(kind, &message),
            "event" => {
                let header: BTreeSet<&str> = ["from", "session", "seq", "time_ms", "event", "sig"].into();
                assert!(header.iter().all(|key| message.contains_key(*key)), "{message:?}");
            }
            "status" | "checkpoint" => assert_eq!(message["from"], device),
            other => assert_eq!(other, "replay", "{topic}"),
        }
        if let Some(kind) = wanted.iter().find(|wanted| **wanted == kind) {
            *seen.entry(kind).or_default() += 1;
        }
    }
    let report = demo.finish().await.unwrap();
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.messages_logged, report.messages_published);

    // The records on the ledger are checkpoints of the log, and the newest is its newest.
    let run = folder.path().join("run");
    let records = records_on_ledger(&run).await;
    assert_eq!(records.len() as u64, report.records_on_ledger);
    assert_eq!(records.last().unwrap(), &std::fs::read_to_string(run.join("log/checkpoint")).unwrap());
}

/// The texts of a run's records, from its mock ledger started again on its state.
async fn records_on_ledger(run: &Path) -> Vec<String> {
    let policy = std::fs::read_to_string(run.join("site.policy")).unwrap();
    let trail = Policy::read(&policy).unwrap().trail.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoints = Endpoints::mock(listener.local_addr().unwrap());
    let state = run.join(MOCK_STATE);
    let read = async {
        let reader = TrailReader::open(&endpoints, Some(&trail.chain), trail.trail).await.unwrap();
        reader.records(0).await.unwrap().into_iter().map(|record| record.text).collect()
    };
    tokio::select! {
        ended = mock::run(listener, &state, std::future::pending()) => panic!("the mock ledger ended: {ended:?}"),
        records = read => records,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_stopped_dead_goes_offline_and_its_share_goes_to_others_after_its_lease_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = start(&folder.path().join("run")).await;
    let (first, second) = {
        let plant = lock(demo.plant());
        let id = |name: &str| plant.charge_point(&name.parse().unwrap()).unwrap();
        (id("cp-1"), id("cp-2"))
    };
    // 40 kW less 20 kW and a margin leave about 27 A a phase for two.
    let shares = 13_000..15_000;
    until("both cars share", || {
        shares.contains(&current(&demo, first).0) && shares.contains(&current(&demo, second).0)
    })
    .await;
    let share = current(&demo, second);

    assert!(demo.kill(&"cp-1".parse().unwrap()));
    let killed = Instant::now();
    let (mut least, mut most) = (share, share);
    let fell = until("the dead agent's charger falls back", || {
        let now = current(&demo, second);
        (least, most) = (least.min(now), most.max(now));
        current(&demo, first) == MilliAmps::ZERO
    })
    .await;
    assert!(most <= share + MilliAmps(1000), "{most}: the share was given away before the lease was over");
    assert!(least >= share - MilliAmps(1000), "{least}: the other car paid for the dead agent");
    assert!(fell - killed >= Duration::from_millis(1500), "the lease ended after {:?}", fell - killed);
    until("the other car gets the share", || current(&demo, second) > MilliAmps(25_000)).await;

    let mut client = MosquittoSub::start(demo.address(), "grid/demo/cp-1/status");
    let (_, status) = client.next().await;
    assert_eq!((&status["state"], status.get("seq")), (&Value::from("offline"), None));
    assert!(status["ends"].is_u64());
    let report = demo.finish().await.unwrap();
    assert!(report.holds(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_anchor_is_killed_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = start(&folder.path().join("run")).await;
    let charging = {
        let plant = lock(demo.plant());
        plant.charge_point(&"cp-2".parse().unwrap()).unwrap()
    };
    until("a car charges", || current(&demo, charging) > MilliAmps::ZERO).await;
    demo.kill_anchor().await;
    sleep(Duration::from_secs(3)).await;
    demo.start_anchor();
    until("the anchor logs again", || demo.progress().logged > 0).await;
    sleep(Duration::from_secs(2)).await;
    let report = demo.finish().await.unwrap();
    assert!(report.holds(), "{report:?}");
    assert!(report.messages_published > 20);
    assert_eq!(report.messages_logged, report.messages_published);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_breaks_no_rule_and_loses_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let demo = start(&folder.path().join("run")).await;
    breaks_no_rule_and_loses_no_message(demo, async |demo, pause| demo.restart_broker(pause).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_something_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("diary.txt"), "mine").unwrap();
    let error = start_on(own_broker(), folder.path()).await.err().unwrap().to_string();
    assert!(error.contains(&folder.path().display().to_string()) && error.contains("not empty"), "{error}");
}

//! Neither a killed anchor nor one whose future is dropped loses what it acknowledged, or repeats what it logged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use grid_anchor::fsck::fsck;
use grid_anchor::recorder::{Progress, RecorderError};
use grid_anchor::service::{AnchorError, run};
use rand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use support::{Site, everything_is_there_once, kills};
use tokio::sync::{oneshot, watch};

const BINARY: &str = env!("CARGO_BIN_EXE_grid-anchor");

fn start(config: &Path) -> Child {
    Command::new(BINARY)
        .args(["run", "--config"])
        .arg(config)
        .env("RUST_LOG", "warn")
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn put_in_order(site: &Site, more: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(BINARY).args(["fsck", "--data-dir"]).arg(site.data_dir()).args(more).output().unwrap();
    (output.status.code(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

fn verify(site: &Site, more: &[&str]) -> Output {
    Command::new(BINARY).args(["verify", "--log"]).arg(site.log()).args(more).output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_anchor_that_is_killed_again_and_again_has_every_message_once() {
    let site = Site::start().await;
    let config = site.anchor_config();
    let mut device = site.device("cp-1", 1);
    let (kills, mut random) = kills(20);
    for kill in 0..kills {
        let mut anchor = start(&config);
        // From the middle of its start to the middle of a checkpoint.
        device.live(200, Duration::from_millis(random.gen_range(5..800))).await;
        anchor.kill().unwrap();
        anchor.wait().unwrap();
        if kill % 10 == 9 {
            fsck(&site.data_dir(), true).unwrap();
        }
    }
    let mut anchor = start(&config);
    device.live(200, Duration::from_millis(700)).await;
    assert!(device.said() > u64::from(kills) * 10, "only {} messages", device.said());
    device.until_acknowledged().await;
    let (code, text) = put_in_order(&site, &[]);
    assert!(code == Some(2) && text.contains("another process uses"), "{text}");
    kill_process(Pid::from_child(&anchor), Signal::TERM).unwrap();
    assert!(anchor.wait().unwrap().success());
    everything_is_there_once(&site, &device);
    let (code, text) = put_in_order(&site, &["--check"]);
    assert!(code == Some(0) && text.ends_with("IN ORDER\n"), "{text}");
    std::fs::write(site.data_dir().join("unfinished/file"), "half").unwrap();
    let (code, text) = put_in_order(&site, &["--json"]);
    let done = r#""left":[{"left":"unfinished","file":"unfinished/file"}],"done":true"#;
    assert!(code == Some(0) && text.contains(done), "{text}");

    let output = verify(&site, &["--json", "--policy", site.policy().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["holds"], true);
    let nobody = verify(&site, &[]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stdout).contains("nobody vouches for key"));
    let bundle = site.log().join("tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let changed = verify(&site, &["--policy", site.policy().to_str().unwrap()]);
    assert_eq!(changed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&changed.stdout).contains("tile/entries/000"));
    let (code, text) = put_in_order(&site, &[]);
    assert!(code == Some(1) && text.starts_with("REFUSED") && text.contains("tile/entries/000"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_anchors_future_is_like_a_kill() {
    let site = Site::start().await;
    let mut device = site.device("cp-1", 1);
    for pause in [5, 150, 400, 700] {
        let (settings, identity) = site.anchor();
        let anchor = tokio::spawn(run(
            settings,
            identity,
            site.broker(),
            None,
            watch::Sender::default(),
            std::future::pending(),
        ));
        device.live(100, Duration::from_millis(300 + pause)).await;
        anchor.abort();
        assert!(anchor.await.unwrap_err().is_cancelled());
    }
    let (settings, identity) = site.anchor();
    let (stop, stopped) = oneshot::channel::<()>();
    let progress = watch::Sender::new(Progress::default());
    let mut seen = progress.subscribe();
    let shutdown = async { stopped.await.unwrap() };
    let anchor = tokio::spawn(run(settings.clone(), identity.clone(), site.broker(), None, progress, shutdown));
    // A log holds at any time, also while it grows.
    let site = Arc::new(site);
    let auditor = tokio::task::spawn_blocking({
        let site = site.clone();
        move || (0..50).find_map(|_| site.verify().failure)
    });
    device.live(300, Duration::from_millis(1500)).await;
    assert_eq!(auditor.await.unwrap(), None);
    device.until_acknowledged().await;
    assert!(seen.borrow_and_update().durable >= device.said());

    let second = run(settings, identity, site.broker(), None, watch::Sender::default(), std::future::pending()).await;
    assert!(matches!(second, Err(AnchorError::Recorder(RecorderError::Durable(_)))), "{second:?}");
    assert!(second.unwrap_err().to_string().contains("another process uses"));

    stop.send(()).unwrap();
    let summary = anchor.await.unwrap().unwrap();
    let Progress { entries, durable, checkpoint_size, .. } = summary.progress;
    assert_eq!((durable, checkpoint_size), (entries, entries));
    everything_is_there_once(&site, &device);
    assert_eq!(site.verify().tree_size, entries);
}

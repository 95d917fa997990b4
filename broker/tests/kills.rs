//! A broker that is killed again and again costs no message: what it forgets, devices say again, and the anchor logs once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "../../anchor/tests/support/mod.rs"]
mod support;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use grid_anchor::recorder::Progress;
use rand::Rng;
use support::{Site, everything_is_there_once, kills};
use tokio::sync::{oneshot, watch};

struct Broker(Child);

impl Broker {
    fn start(port: u16) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grid-broker"));
        command.args(["run", "--listen", &format!("127.0.0.1:{port}")]).env("RUST_LOG", "error");
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_again_and_again_costs_no_message() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let site = Site::on(port);
    let (settings, identity) = site.anchor();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { stopped.await.unwrap() };
    let progress = watch::Sender::new(Progress::default());
    let anchor = tokio::spawn(grid_anchor::service::run(settings, identity, site.broker(), None, progress, shutdown));
    let mut device = site.device("cp-1", 1);
    let (kills, mut random) = kills(20);
    for _ in 0..kills {
        let broker = Broker::start(port);
        device.live(200, Duration::from_millis(random.gen_range(5..1500))).await;
        drop(broker);
    }
    let _broker = Broker::start(port);
    device.live(200, Duration::from_secs(3)).await;
    device.until_acknowledged().await;
    assert!(device.said() > u64::from(kills) * 10, "only {} messages", device.said());
    stop.send(()).unwrap();
    anchor.await.unwrap().unwrap();
    everything_is_there_once(&site, &device);
}

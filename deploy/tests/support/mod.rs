//! A small street, and real peers: a `mosquitto_sub` that listens to it, a mosquitto that it speaks through.
#![allow(dead_code, reason = "each test file uses another part")]

pub mod mosquitto;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use grid::demo::{Broker, Cars, Demo, DemoError, Options, Pace};
use grid::plant::ChargePointId;
use grid::plant::wires::lock;
use grid::street::Street;
use grid_protocol::units::MilliAmps;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Two hours from midnight at 20 kW, with two cars of 21.8 kW that want more than they can get: 30 s at 240 times the
/// clock.
pub fn two_cars() -> Street {
    let mut base = "time,base_load_w,pv_w\n".to_owned();
    for row in 0..8 {
        base += &format!("2024-01-01T{:02}:{:02}:00,20000,0\n", row / 4, row % 4 * 15);
    }
    let sessions = "charge_point,max_power_w,arrival,departure,energy_wh\n\
                    cp-1,21800,2024-01-01T00:15:00,2024-01-01T01:59:00,90000\n\
                    cp-2,21800,2024-01-01T00:20:00,2024-01-01T01:59:00,90000\n";
    Street::parse(("base", &base), ("sessions", sessions)).unwrap()
}

/// On a broker of its own.
pub async fn start(folder: &Path) -> Demo {
    start_on(own_broker(), folder).await.unwrap()
}

pub async fn start_on(broker: Broker, folder: &Path) -> Result<Demo, DemoError> {
    let options = Options {
        street: two_cars(),
        limit_w: 40_000,
        cars: Cars::Prompt,
        pace: Pace::Factor(240),
        broker,
        data_dir: folder.to_owned(),
    };
    Demo::start(options).await
}

/// On a free port.
pub fn own_broker() -> Broker {
    Broker::Own(Some("127.0.0.1:0".parse().unwrap()))
}

pub fn current(demo: &Demo, id: ChargePointId) -> MilliAmps {
    demo.progress();
    lock(demo.plant()).current(id)
}

pub fn all_cars_charge(demo: &Demo) -> bool {
    let cars: Vec<ChargePointId> = lock(demo.plant()).charge_points().collect();
    cars.into_iter().all(|car| current(demo, car) > MilliAmps::ZERO)
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Instant {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long until {what}");
        sleep(Duration::from_millis(5)).await;
    }
    Instant::now()
}

/// Takes the broker away for longer than a lease lasts, and holds the street to what must be true nevertheless.
pub async fn breaks_no_rule_and_loses_no_message(mut demo: Demo, restart: impl AsyncFnOnce(&mut Demo, Duration)) {
    until("both cars charge", || all_cars_charge(&demo)).await;
    restart(&mut demo, Duration::from_secs(4)).await;
    assert!(!all_cars_charge(&demo), "leases outlive a broker that is gone");
    until("both cars charge again", || all_cars_charge(&demo)).await;
    let report = demo.finish().await.unwrap();
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.messages_logged, report.messages_published);
}

/// A real `mosquitto_sub`, ended with the test.
pub struct MosquittoSub {
    child: Child,
    lines: mpsc::UnboundedReceiver<(String, String)>,
}

impl MosquittoSub {
    pub fn start(broker: SocketAddr, topic: &str) -> Self {
        let mut child = Command::new("mosquitto_sub")
            .args(["-h", &broker.ip().to_string(), "-p", &broker.port().to_string(), "-t", topic, "-v"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let (topic, payload) = line.split_once(' ').unwrap();
                if sender.send((topic.to_owned(), payload.to_owned())).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    pub async fn next(&mut self) -> (String, Value) {
        let (topic, payload) = timeout(Duration::from_secs(20), self.lines.recv()).await.unwrap().unwrap();
        (topic, serde_json::from_str(&payload).unwrap())
    }
}

impl Drop for MosquittoSub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! A small street, and a real `mosquitto_sub` that listens to it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use grid::demo::{Cars, Demo, Options, Pace};
use grid::street::Street;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

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

pub async fn start(folder: &Path) -> Demo {
    let options = Options {
        street: two_cars(),
        limit_w: 40_000,
        cars: Cars::Prompt,
        pace: Pace::Factor(240),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        data_dir: folder.to_owned(),
    };
    Demo::start(options).await.unwrap()
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

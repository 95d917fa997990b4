//! What the broker says about itself below `$SYS`, compared with what a mosquitto says, and how it bears want of file
//! descriptors.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "peers/mosquitto.rs"]
mod mosquitto;
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use grid_broker::Limits;
use mosquitto::{ForeignBroker, free_address};
use support::*;
use tokio::net::TcpStream;

/// What is left out of mosquitto's figures, with the reason in the module `sys`.
const NOT_OURS: &str = "$SYS/broker/heap/";

#[tokio::test]
async fn the_figures_have_the_names_and_formats_of_mosquittos() {
    let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
    let settings = format!("listener {} 127.0.0.1\nallow_anonymous true\nsys_interval 1\n", address.port());
    let _theirs = ForeignBroker::start(folder.path(), &settings, address);
    let broker = Broker::start_with(Limits { sys_interval: Duration::from_secs(1), ..Limits::default() }).await;
    // Long enough for mosquitto to have published at an interval, where it adds what was zero.
    let arguments = ["-t", "$SYS/#", "-v", "-W", "4"];
    let ours = Mosquitto::spawn("mosquitto_sub", &broker, &arguments);
    let port = address.port().to_string();
    let real = Mosquitto::spawn("mosquitto_sub", &broker, &[&["-p", &port], &arguments[..]].concat());
    let (ours, real) = (figures(ours.lines().await), figures(real.lines().await));
    assert!(real.len() > 50, "{real:?}");
    for (topic, value) in real {
        if topic.starts_with(NOT_OURS) {
            continue;
        }
        let here = ours.iter().find(|(name, _)| *name == topic);
        let (_, here) = here.unwrap_or_else(|| panic!("{topic} is missing in {ours:?}"));
        assert_eq!(shape(here), shape(&value), "{topic}: {here} here, {value} there");
    }
    let uptimes: Vec<_> = ours.iter().filter(|(topic, _)| topic == "$SYS/broker/uptime").collect();
    assert!(uptimes.len() > 2, "published again when they change: {uptimes:?}");
    let versions = ours.iter().filter(|(topic, _)| topic == "$SYS/broker/version").count();
    assert_eq!(versions, 1, "published again without a change");
    assert!(ours.iter().any(|(topic, _)| topic == "$SYS/broker/publish/messages/dropped/queue_full"));
    broker.stop().await;
}

#[tokio::test]
async fn an_interval_of_zero_publishes_no_figures() {
    let broker = Broker::start_with(Limits { sys_interval: Duration::ZERO, ..Limits::default() }).await;
    let mut client = broker.v3("c").await;
    client.subscribe("$SYS/#", 0).await;
    client.expect_silence().await;
    broker.stop().await;
}

fn figures(lines: Vec<String>) -> Vec<(String, String)> {
    // Topics may hold blanks, and so may values.
    let split = |line: &String| {
        let (topic, value) = match line.strip_prefix("$SYS/broker/retained messages/count ") {
            Some(value) => ("$SYS/broker/retained messages/count", value),
            None => line.split_once(' ').unwrap(),
        };
        (topic.to_owned(), value.to_owned())
    };
    lines.iter().map(split).collect()
}

/// A value without the names and digits in it.
fn shape(value: &str) -> String {
    if value.contains(" version ") {
        return "a version".to_owned();
    }
    let point = value.find('.').map_or(0, |point| value.len() - point);
    format!("{} {point}", value.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.'))
}

/// The broker as a program that may open few files.
struct Cramped {
    child: std::process::Child,
    address: SocketAddr,
    log: Option<std::thread::JoinHandle<usize>>,
}

impl Cramped {
    fn start(files: u32) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {files}; exec \"$0\" run --listen 127.0.0.1:0")])
            .arg(env!("CARGO_BIN_EXE_grid-broker"))
            .env_remove("RUST_LOG")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = log.find(|line| line.contains("listening on ")).unwrap();
        let address = line.split("listening on ").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
        Self { child, address, log: Some(std::thread::spawn(move || log.count())) }
    }

    /// Processor time used so far, of all threads together (`man proc_pid_stat`, in ticks of 10 ms).
    fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Ends it; the number of lines it has logged.
    fn end(mut self) -> usize {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log.take().unwrap().join().unwrap()
    }
}

impl Drop for Cramped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_broker_out_of_file_descriptors_stays_calm_and_serves_again_when_there_are_some() {
    let broker = Cramped::start(40);
    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.push(TcpStream::connect(broker.address).await.unwrap());
    }
    let before = broker.processor_time();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = broker.processor_time() - before;
    assert!(used < Duration::from_millis(500), "{used:?} of processor time in 2 s");
    drop(idle);
    let served = async {
        loop {
            let mut client = Raw { stream: TcpStream::connect(broker.address).await.unwrap() };
            client.send(&connect_v3("c", 0)).await;
            if client.try_packet().await.is_some_and(|connack| connack == bytes("20020000")) {
                return;
            }
        }
    };
    within(served).await;
    let lines = broker.end();
    assert!((1..20).contains(&lines), "{lines} lines of log");
}

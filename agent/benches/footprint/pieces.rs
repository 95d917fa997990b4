//! The way of one message from the reading to the socket, piece by piece.

use std::time::{Duration, Instant};

use ed25519_dalek::{Signer, SigningKey};
use grid_agent::commands::Kept;
use grid_agent::device::{Device, Nature, Sample};
use grid_agent::outbox::{Bounds, Outbox};
use grid_agent::run::MEMORY_BYTES;
use grid_protocol::author::Author;
use grid_protocol::message::{Header, Message, Session};
use grid_protocol::topic::{Kind, Name};
use grid_protocol::units::{MilliAmps, MilliVolts, Millis};
use grid_service::broker::BrokerSettings;
use grid_service::clock::{boot_now, unix_now};
use grid_service::link::{Delivery, Incoming, Link};

use crate::mosquitto::Broker;

/// Often enough for a median that stays.
const TIMES: usize = 2_000;
/// Pieces are measured as they occur, after a pause: a processor that has slept is not as quick as in a loop.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Piece(Vec<Duration>);

impl Piece {
    fn time<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let made = run();
        self.0.push(began.elapsed());
        made
    }

    fn median_us(&mut self) -> f64 {
        self.0.sort_unstable();
        self.0[self.0.len() / 2].as_secs_f64() * 1e6
    }
}

#[tokio::main(flavor = "current_thread")]
pub async fn measure() {
    let broker = Broker::start();
    let settings = BrokerSettings::plain("127.0.0.1", broker.port);
    let (name, site): (Name, Name) = ("cp-1".parse().unwrap(), "demo".parse().unwrap());
    let (link, mut incoming) = Link::open(&settings.plainly().unwrap(), &name, Vec::new());
    while !matches!(incoming.recv().await.unwrap(), Incoming::Connected) {}

    let key = SigningKey::from_bytes(&[7; 32]);
    let session = Session(1);
    let mut author = Author::new(site, name.clone(), session, key.clone());
    let mut device = Device::new(nature(), &Kept::default(), session, boot_now());
    let mut outbox = Outbox::new(Bounds { memory_bytes: MEMORY_BYTES, disk_bytes: None });
    outbox.begin(session);
    let [mut decide, mut json, mut sign, mut seal, mut keep, mut send, mut whole] = [const { Piece(Vec::new()) }; 7];
    for number in 0..TIMES as i64 {
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        let measurement = decide.time(|| {
            let now = boot_now();
            let current = vec![MilliAmps(6_000 + number % 2_000)];
            let sample = Sample { at: now, current, voltage: vec![MilliVolts(230_000)] };
            let _ = device.on_sample(sample, Ok(MilliAmps(16_000)), now);
            device.report(now)
        });
        let signed = seal.time(|| author.say(Kind::Measurement, &measurement, unix_now()).unwrap());
        keep.time(|| outbox.keep(session, &signed, boot_now(), unix_now()));
        let before = Instant::now();
        link.publish(&signed.topic.to_string(), signed.payload.clone(), Delivery::Once).unwrap();
        while !link.is_idle() {
            tokio::task::yield_now().await;
        }
        send.0.push(before.elapsed());
        whole.0.push(began.elapsed());

        // What of `seal` is JSON, and what signature.
        let header = Header { from: name.clone(), session, seq: signed.seq, time_ms: unix_now() };
        let payload = json.time(|| serde_json::to_vec(&Message { header, body: &measurement }).unwrap());
        sign.time(|| key.sign(&payload));
    }
    link.close().await;

    let total = whole.median_us();
    println!("one measurement from the reading to the socket, medians of {TIMES}");
    for (name, piece) in [
        ("decision and report", &mut decide),
        ("numbered, as JSON, signed", &mut seal),
        ("  of that JSON", &mut json),
        ("  of that the signature", &mut sign),
        ("kept until it is acknowledged", &mut keep),
        ("MQTT, with the write to the socket", &mut send),
    ] {
        let median = piece.median_us();
        println!("{name:<38}{median:>8.1} µs{:>6.0} %", median / total * 100.0);
    }
    println!("{:<38}{total:>8.1} µs", "all of it");
}

fn nature() -> Nature {
    Nature {
        min_ma: MilliAmps(6_000),
        failsafe_ma: MilliAmps(6_000),
        steps_ma: Vec::new(),
        priority: 5,
        max_ttl: Millis(3_000),
        change_time: Millis(50),
        meter_interval: Millis(30),
        time_factor: 1,
    }
}

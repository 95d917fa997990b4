//! From publish to one subscriber at a steady rate, however long answers take.
//!
//! Two threads with blocking sockets, since those wake sooner than tasks do. Every payload begins with the time at
//! which it was sent.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::brokers::{self, Role};
use crate::client::{Packets, connect, packet_ids, puback, publish, subscribe};
use crate::figures::{Goal, Pair, Unit, median, percentile, row, section};
use crate::{Failure, client};

const PAYLOAD: usize = 200;
const TOPIC: &str = "compare/latency";
const GOAL: Goal = Goal::AtMostTimes(2.0);

pub fn compare(quick: bool) -> Result<(), Failure> {
    let brokers = brokers::start(Role::Raised)?;
    let (rounds, length) = if quick { (2, Duration::from_millis(500)) } else { (8, Duration::from_secs(2)) };
    for rate in [100, 2000] {
        for qos in [0, 1] {
            let mut measured = vec![Measured::default(); brokers.len()];
            for _ in 0..rounds {
                for (broker, measured) in brokers.iter().zip(&mut measured) {
                    measured.add(round(broker.address, rate, qos, length)?);
                }
            }
            measured.iter_mut().for_each(|of| of.times.sort_unstable());
            let messages = measured.first().map_or(0, |of| of.times.len());
            section(&format!("Latency, {rate} messages/s, QoS {qos}, {PAYLOAD} bytes, {messages} messages"));
            for (name, permille) in [("p50", 500), ("p99", 990), ("p99.9", 999), ("max", 1000)] {
                let pair = Pair::of(&measured, |of| percentile(&of.times, permille));
                row(name, Unit::Micros, pair, (name == "p99").then_some(GOAL));
            }
            let pair = Pair::of(&measured, |of| median(&of.p99_of_rounds));
            row("p99 of a round, median of the rounds", Unit::Micros, pair, None);
        }
    }
    Ok(())
}

/// What one broker took in all rounds.
#[derive(Clone, Default)]
struct Measured {
    times: Vec<Duration>,
    /// What else the machine did for a moment spoils one of them, not their median.
    p99_of_rounds: Vec<f64>,
}

impl Measured {
    fn add(&mut self, mut round: Vec<Duration>) {
        round.sort_unstable();
        self.p99_of_rounds.push(percentile(&round, 990));
        self.times.extend(round);
    }
}

/// The time that each message took, at `rate` messages a second for `length`.
fn round(address: SocketAddr, rate: u32, qos: u8, length: Duration) -> Result<Vec<Duration>, Failure> {
    let mut subscriber = connect(address, "compare-subscriber")?;
    subscribe(&mut subscriber, &[TOPIC.to_owned()], qos)?;
    let mut publisher = connect(address, "compare-publisher")?;
    let mut answers = publisher.try_clone()?;
    let pause = Duration::from_secs(1) / rate;
    let messages = usize::try_from(length.as_micros() / pause.as_micros())?;
    let start = Instant::now();

    let receiving = thread::spawn(move || -> Result<Vec<Duration>, Failure> {
        let mut packets = Packets::new();
        let mut times = Vec::with_capacity(messages);
        while times.len() < messages {
            packets.read(&mut subscriber)?;
            let now = start.elapsed();
            while let Some(packet) = packets.next() {
                let (id, payload) = packet.publish().ok_or("not a PUBLISH")?;
                let sent = u64::from_le_bytes(payload.get(..8).ok_or("a payload of another")?.try_into()?);
                times.push(now.saturating_sub(Duration::from_nanos(sent)));
                if let Some(id) = id {
                    subscriber.write_all(&puback(id))?;
                }
            }
        }
        Ok(times)
    });
    // Takes the acknowledgements, until the connection ends.
    let acknowledged = thread::spawn(move || {
        let mut packets = Packets::new();
        while packets.read(&mut answers).is_ok() {
            while packets.next().is_some() {}
        }
    });

    let mut payload = vec![b'x'; PAYLOAD];
    for (id, due) in packet_ids().zip((0..messages).scan(Duration::ZERO, |due, _| {
        *due += pause;
        Some(*due)
    })) {
        thread::sleep(due.saturating_sub(start.elapsed()));
        let now = u64::try_from(start.elapsed().as_nanos())?;
        payload[..8].copy_from_slice(&now.to_le_bytes());
        publisher.write_all(&publish(TOPIC, qos, id, &payload))?;
    }
    let times = receiving.join().map_err(|_| "the receiving thread failed")?;
    publisher.shutdown(Shutdown::Both)?;
    acknowledged.join().map_err(|_| "the thread for acknowledgements failed")?;
    times.map_err(|error| format!("not all messages arrived within {:?}: {error}", client::PATIENCE).into())
}

//! Many messages at once, as fast as one client can write them, to one subscriber of everything at QoS 1. Here ours has
//! its default limits.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::brokers::{self, Role};
use crate::client::{Packets, connect, packet_ids, puback, publish, subscribe};
use crate::figures::{Goal, Pair, Unit, row, section};

const MESSAGES: usize = 60_000;
const PAYLOAD: usize = 300;

/// What came of it.
struct Arrived {
    /// Different messages.
    messages: usize,
    /// Messages that came more than once.
    again: usize,
    took: Duration,
}

pub fn compare() -> Result<(), Failure> {
    let brokers = brokers::start(Role::Default)?;
    section(&format!("A burst of {MESSAGES} messages of {PAYLOAD} bytes to one subscriber of #, QoS 1"));
    let arrived: Vec<Arrived> = brokers.iter().map(|broker| burst(broker.address)).collect::<Result<_, _>>()?;
    let all = Goal::Exactly(MESSAGES as f64);
    row("arrived", Unit::Messages, Pair::of(&arrived, |arrived| arrived.messages as f64), Some(all));
    row("arrived more than once", Unit::Messages, Pair::of(&arrived, |arrived| arrived.again as f64), None);
    let rate = |arrived: &Arrived| arrived.messages as f64 / arrived.took.as_secs_f64();
    row("throughput", Unit::PerSecond, Pair::of(&arrived, rate), None);
    Ok(())
}

fn burst(address: SocketAddr) -> Result<Arrived, Failure> {
    let mut subscriber = connect(address, "compare-subscriber")?;
    subscribe(&mut subscriber, &["#".to_owned()], 1)?;
    let mut publisher = connect(address, "compare-publisher")?;
    let mut answers = publisher.try_clone()?;
    let start = Instant::now();
    let sending = thread::spawn(move || {
        let mut payload = [b'x'; PAYLOAD];
        for (number, id) in (0..MESSAGES).zip(packet_ids()) {
            payload[..8].copy_from_slice(&number.to_le_bytes());
            publisher.write_all(&publish("compare/burst", 1, id, &payload))?;
        }
        Ok::<_, std::io::Error>(publisher)
    });
    // Takes the acknowledgements, until the connection ends.
    let acknowledged = thread::spawn(move || {
        let mut packets = Packets::new();
        while packets.read(&mut answers).is_ok() {
            while packets.next().is_some() {}
        }
    });

    let mut seen = vec![false; MESSAGES];
    let mut arrived = Arrived { messages: 0, again: 0, took: Duration::ZERO };
    let mut packets = Packets::new();
    // What does not come for a long time does not come at all.
    while arrived.messages < MESSAGES && packets.read(&mut subscriber).is_ok() {
        let mut acknowledgements = Vec::new();
        while let Some(packet) = packets.next() {
            let (id, payload) = packet.publish().ok_or("not a PUBLISH")?;
            acknowledgements.extend(id.map(puback).into_iter().flatten());
            let number = usize::from_le_bytes(payload.get(..8).ok_or("a payload of another")?.try_into()?);
            let before = std::mem::replace(seen.get_mut(number).ok_or("a payload of another")?, true);
            *if before { &mut arrived.again } else { &mut arrived.messages } += 1;
        }
        subscriber.write_all(&acknowledgements)?;
    }
    arrived.took = start.elapsed();
    let publisher = sending.join().map_err(|_| "the sending thread failed")??;
    publisher.shutdown(Shutdown::Both)?;
    acknowledged.join().map_err(|_| "the thread for acknowledgements failed")?;
    Ok(arrived)
}

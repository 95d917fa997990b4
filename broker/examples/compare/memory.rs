//! Resident memory: alone, with clients, and after a million messages to a thousand device filters.

use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::Failure;
use crate::brokers::{self, Broker, Memory, Role};
use crate::client::{connect, subscribe};
use crate::figures::{Goal, Pair, Unit, row, section};
use crate::flood::{Flood, PAYLOAD, flood};

/// Time for a broker to come to rest.
const REST: Duration = Duration::from_secs(1);
const WITH_200: Goal = Goal::AtMost(30.0);
const AFTER_A_MILLION: Goal = Goal::AtMost(60.0);
const FILTERS: usize = 1000;
const SUBSCRIBERS: usize = 20;

pub fn compare(quick: bool, runtime: &Runtime) -> Result<(), Failure> {
    clients()?;
    messages(if quick { 100_000 } else { 1_000_000 }, runtime)
}

fn clients() -> Result<(), Failure> {
    let brokers = brokers::start(Role::Raised)?;
    section("Resident memory, each client with one subscription");
    let mut connected: Vec<Vec<_>> = brokers.iter().map(|_| Vec::new()).collect();
    for (clients, goal) in [(0, None), (200, Some(WITH_200)), (1000, None)] {
        for (broker, connected) in brokers.iter().zip(&mut connected) {
            for number in connected.len()..clients {
                let mut stream = connect(broker.address, &format!("compare-{number}"))?;
                subscribe(&mut stream, &[format!("compare/{number}/set")], 1)?;
                connected.push(stream);
            }
        }
        let name = if clients == 0 { "idle".to_owned() } else { format!("{clients} clients") };
        row(&name, Unit::Megabytes, Pair::of(&at_rest(&brokers)?, |memory| memory.now_mb), goal);
    }
    Ok(())
}

fn messages(messages: usize, runtime: &Runtime) -> Result<(), Failure> {
    let brokers = brokers::start(Role::Raised)?;
    section(&format!("{messages} messages of {PAYLOAD} bytes over {FILTERS} filters of {SUBSCRIBERS} clients, QoS 0"));
    let topics: Vec<String> = (0..FILTERS).map(|number| format!("compare/{number:03}/measurement")).collect();
    let what = Flood {
        publishers: vec![topics.clone()],
        subscribers: topics.chunks(FILTERS / SUBSCRIBERS).map(<[_]>::to_vec).collect(),
        copies: 1,
        qos: 0,
        messages,
        window: 5_000,
    };
    let mut rates = Vec::new();
    for broker in &brokers {
        rates.push(runtime.block_on(flood(broker.address, &what))?);
    }
    row("throughput", Unit::PerSecond, Pair::of(&rates, |rate| *rate), None);
    let memory = at_rest(&brokers)?;
    row("memory afterwards", Unit::Megabytes, Pair::of(&memory, |memory| memory.now_mb), Some(AFTER_A_MILLION));
    row("most memory meanwhile", Unit::Megabytes, Pair::of(&memory, |memory| memory.most_mb), None);
    Ok(())
}

fn at_rest(brokers: &[Broker]) -> Result<Vec<Memory>, Failure> {
    thread::sleep(REST);
    brokers.iter().map(Broker::memory).collect()
}

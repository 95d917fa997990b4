//! Messages a second, as many as go, and what each costs the broker.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::Failure;
use crate::brokers::{self, Role};
use crate::figures::{Goal, Pair, Unit, median, row, section};
use crate::flood::{Flood, PAYLOAD, flood};

const GOAL: Goal = Goal::AtLeastTimes(1.0);

/// What a broker did in all rounds.
#[derive(Clone, Default)]
struct Measured {
    rates: Vec<f64>,
    processor: Duration,
}

/// From how many to how many.
struct Shape {
    name: &'static str,
    publishers: usize,
    subscribers: usize,
    filter: &'static str,
    qos: u8,
    messages: usize,
    window: usize,
}

const SHAPES: [Shape; 6] = [
    shape("1 → 1, QoS 0, exact filter", 1, 1, "compare/000", 0),
    shape("1 → 1, QoS 0, wildcard filter", 1, 1, "compare/#", 0),
    shape("1 → 1, QoS 1, exact filter", 1, 1, "compare/000", 1),
    shape("1 → 1, QoS 1, wildcard filter", 1, 1, "compare/#", 1),
    shape("50 → 1, QoS 0, 50 topics, wildcard filter", 50, 1, "compare/#", 0),
    shape("1 → 200, QoS 0, exact filter (deliveries)", 1, 200, "compare/000", 0),
];

const fn shape(name: &'static str, publishers: usize, subscribers: usize, filter: &'static str, qos: u8) -> Shape {
    let (messages, window) = if subscribers > 1 { (2_000, 500) } else { (100_000, 5_000) };
    Shape { name, publishers, subscribers, filter, qos, messages, window }
}

impl Shape {
    fn flood(&self, quick: bool) -> Flood {
        Flood {
            publishers: (0..self.publishers).map(|number| vec![format!("compare/{number:03}")]).collect(),
            subscribers: vec![vec![self.filter.to_owned()]; self.subscribers],
            copies: self.subscribers,
            qos: self.qos,
            messages: if quick { self.messages / 10 } else { self.messages },
            window: self.window,
        }
    }
}

pub fn compare(quick: bool, runtime: &Runtime) -> Result<(), Failure> {
    let brokers = brokers::start(Role::Raised)?;
    let rounds = if quick { 1 } else { 3 };
    section(&format!("Throughput, {PAYLOAD} bytes, median of {rounds} rounds"));
    for shape in SHAPES {
        let what = shape.flood(quick);
        let mut measured = vec![Measured::default(); brokers.len()];
        for _ in 0..rounds {
            for (broker, measured) in brokers.iter().zip(&mut measured) {
                let before = broker.processor()?;
                let rate = runtime.block_on(flood(broker.address, &what));
                measured.rates.push(rate.map_err(|error| format!("{}: {error}", shape.name))?);
                measured.processor += broker.processor()? - before;
            }
        }
        row(shape.name, Unit::PerSecond, Pair::of(&measured, |of| median(&of.rates)), Some(GOAL));
        let deliveries = (rounds * what.messages * what.copies) as f64;
        let each = |of: &Measured| of.processor.as_nanos() as f64 / deliveries;
        row("  processor time of the broker for each", Unit::Nanos, Pair::of(&measured, each), None);
    }
    Ok(())
}

//! What a random street consists of, and what happens to it.

use std::fmt;

use grid_agent::lease::Terms;
use grid_protocol::message::Phase;
use grid_protocol::units::{MilliAmps, Millis};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::party::Site;
use crate::twin::{Place, Weakness};

/// The most devices.
const DEVICES: usize = 8;
/// Clocks run at 990 to 1010 thousandths of their nominal rate.
const RATES: std::ops::RangeInclusive<u64> = 990..=1010;

/// A random street and its story.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where chance begins.
    pub seed: u64,
    /// Of leases.
    pub terms: Terms,
    /// How many fuses there are below the transformer, each behind the one before or beside it.
    pub parents: Vec<Option<usize>>,
    /// Where devices are connected.
    pub places: Vec<Place>,
    /// How fast clocks run, in thousandths: the transformer's, then those of devices.
    pub rates: Vec<u64>,
    /// Of each node, how much there is on each phase beyond what failsafe limits take.
    pub spare: Vec<MilliAmps>,
    /// Of a hundred messages, how many are lost.
    pub lost: u64,
    /// Of a hundred messages, how many come twice.
    pub doubled: u64,
    /// Of a hundred messages, how many are delayed; the others come after a few milliseconds.
    pub delayed: u64,
    /// The longest delay.
    pub slowest: Millis,
    /// Of a hundred decreases, how many a car follows late.
    pub sluggish: u64,
    /// How often the transformer looks at its book.
    pub poll: Millis,
    /// How long the story is.
    pub length: Millis,
    /// What is done to the street, and when.
    pub events: Vec<Event>,
}

/// Something that is done to the street.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When, in true time.
    pub at: Millis,
    /// What.
    pub what: Happening,
}

/// What can be done to the street.
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    /// The transformer's wish for a device becomes so many percent of what there is.
    Wish(usize, i64),
    /// A node's room becomes so many percent of what it was, beyond what failsafe limits take.
    Room(usize, i64),
    /// A device crashes and starts again.
    RestartDevice(usize),
    /// The transformer crashes and starts again.
    RestartTransformer,
}

impl Case {
    /// The street's configuration, with one rule broken or none.
    pub fn site(&self, weakness: Option<Weakness>) -> Site {
        Site { weakness, terms: self.terms, parents: self.parents.clone(), places: self.places.clone() }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ttl {} of at most {}, seed {}", self.terms.ttl, self.terms.max_ttl, self.seed)?;
        for (node, (parent, spare)) in self.parents.iter().zip(&self.spare).enumerate() {
            writeln!(f, "node {node} behind {parent:?} with {spare} beyond failsafe limits")?;
        }
        for (number, (place, rate)) in self.places.iter().zip(&self.rates[1..]).enumerate() {
            let Place { node, phases, failsafe } = place;
            writeln!(f, "device {number} behind {node} on {phases:?}, failsafe {failsafe}, clock at {rate} ‰")?;
        }
        writeln!(f, "the transformer's clock at {} ‰, it looks every {}", self.rates[0], self.poll)
    }
}

fn places(nodes: usize) -> impl Strategy<Value = Vec<Place>> {
    let phases = prop_oneof![
        3 => Just(vec![Phase::L1]),
        1 => Just(vec![Phase::L2]),
        1 => Just(vec![Phase::L3, Phase::L1]),
        2 => Just(Phase::ALL.to_vec()),
    ];
    let failsafe = prop_oneof![2 => Just(MilliAmps(0)), 1 => Just(MilliAmps(6_000))];
    let place = (0..nodes, phases, failsafe).prop_map(|(node, phases, failsafe)| Place { node, phases, failsafe });
    vec(place, 1..=DEVICES)
}

fn events(length: u64) -> impl Strategy<Value = Vec<Event>> {
    let percent = || prop_oneof![2 => Just(0), 2 => Just(100), 2 => 0..=100_i64];
    let what = prop_oneof![
        12 => (0..DEVICES, percent()).prop_map(|(device, percent)| Happening::Wish(device, percent)),
        1 => (0..3_usize, percent()).prop_map(|(node, percent)| Happening::Room(node, percent)),
        1 => (0..DEVICES).prop_map(Happening::RestartDevice),
        1 => Just(Happening::RestartTransformer),
    ];
    let event = (0..=length, what).prop_map(|(at, what)| Event { at: Millis(at), what });
    vec(event, 0..60)
}

/// All streets.
pub fn cases() -> impl Strategy<Value = Case> {
    let parents = prop_oneof![
        Just(vec![None]),
        Just(vec![None, Some(0)]),
        Just(vec![None, Some(0), Some(0)]),
        Just(vec![None, Some(0), Some(1)]),
    ];
    let ttl = prop_oneof![Just((3_000, 3_000)), Just((10_000, 10_000)), Just((3_000, 10_000)), Just((1_000, 3_000))];
    let rate = prop_oneof![2 => Just(*RATES.start()), 2 => Just(*RATES.end()), 1 => RATES];
    let network = (
        prop_oneof![Just(0), 0..=60_u64],
        prop_oneof![Just(0), 0..=60_u64],
        prop_oneof![Just(0), 0..=60_u64],
        0..=100_u64,
        prop_oneof![Just(5), 5..=50_u64],
    );
    let shape = (parents, ttl).prop_flat_map(move |(parents, ttl)| {
        let nodes = parents.len();
        let length = ttl.1 * 5;
        let spare = vec((1..=32_i64).prop_map(|amps| MilliAmps(amps * 1000)), nodes);
        let rates = vec(rate.clone(), DEVICES + 1);
        (Just(parents), Just(ttl), Just(length), places(nodes), spare, rates, events(length))
    });
    (any::<u64>(), shape, network).prop_map(|(seed, shape, network)| {
        let (parents, (ttl, max_ttl), length, places, spare, mut rates, mut events) = shape;
        let (lost, doubled, delayed, sluggish, poll) = network;
        rates.truncate(places.len() + 1);
        events.sort_by_key(|event| event.at.0);
        Case {
            seed,
            terms: Terms { ttl: Millis(ttl), max_ttl: Millis(max_ttl) },
            parents,
            places,
            rates,
            spare,
            lost,
            doubled,
            delayed,
            slowest: Millis(ttl * 3 / 2),
            sluggish,
            poll: Millis(poll),
            length: Millis(length),
            events,
        }
    })
}

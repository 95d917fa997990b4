//! Which messages of which session are in the log, and what to acknowledge.
//!
//! Nothing of a session is ever forgotten, so nothing is logged twice; a session without gaps is a handful of numbers.

use std::collections::{BTreeMap, BTreeSet};

use grid_protocol::message::{Ack, Session};
use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, Millis};
use serde::{Deserialize, Serialize};

use crate::sequence::Sequence;

/// The same device is not acknowledged to more often, unless it repeats itself.
const ACK_EVERY: Millis = Millis(1000);

/// One device session.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct SessionLog {
    /// What is in the log.
    logged: Sequence,
    /// What is in the log or declared lost.
    settled: Sequence,
    /// Its successor says that it went this far.
    announced: u64,
    /// The newest birth whose last will is in the log.
    ended: u64,
    /// In the log stands at this index, or later, whose certificate counts in it, for all of it from there on, or for
    /// all that is left of it. `None`: it has no entries yet.
    named: Option<u64>,
    /// All its entries stand before this index.
    until: u64,
    /// What is durable: the newest acknowledgement.
    durable: Option<Ack>,
}

/// A session in a snapshot. There may be many, and most are over and have nothing special: what is usual is left out.
#[derive(Serialize, Deserialize)]
struct Written {
    logged: Sequence,
    /// If it differs from `logged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<Sequence>,
    #[serde(default, skip_serializing_if = "is_zero")]
    announced: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    ended: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    named: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    until: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<Written> for SessionLog {
    fn from(written: Written) -> Self {
        let Written { logged, settled, announced, ended, named, until } = written;
        let settled = settled.unwrap_or_else(|| logged.clone());
        Self { logged, settled, announced, ended, named: Some(named), until, durable: None }
    }
}

impl From<SessionLog> for Written {
    fn from(known: SessionLog) -> Self {
        let SessionLog { logged, settled, announced, ended, named, until, durable: _ } = known;
        let settled = Some(settled).filter(|settled| *settled != logged);
        Self { logged, settled, announced, ended, named: named.unwrap_or(0), until }
    }
}

impl SessionLog {
    /// Acknowledges as far as the ranges that one ack may name reach.
    fn ack(&self, of: Session, tree_size: u64) -> Ack {
        let end = self.settled.highest().max(self.announced);
        let mut missing: Vec<(u64, u64)> = self.settled.missing_through(end).take(Ack::MOST_RANGES + 1).collect();
        let beyond = (missing.len() > Ack::MOST_RANGES).then(|| missing.pop()).flatten();
        let through = beyond.map_or(end, |(first, _)| first - 1);
        Ack { of, through, missing, tree_size }
    }
}

/// All sessions of all devices.
#[derive(Debug, Default)]
pub struct Sessions {
    devices: BTreeMap<Name, BTreeMap<Session, SessionLog>>,
    /// Changed since the last sync.
    changed: BTreeSet<(Name, Session)>,
    /// Durable, to be acknowledged.
    due: BTreeSet<(Name, Session)>,
    /// Said again by the device: to be acknowledged at once.
    again: BTreeSet<(Name, Session)>,
    acknowledged: BTreeMap<Name, BootTime>,
}

impl Sessions {
    /// Starts from what a snapshot holds. All of it is durable.
    pub fn restore(mut devices: BTreeMap<Name, BTreeMap<Session, SessionLog>>, tree_size: u64) -> Self {
        for (session, known) in devices.values_mut().flatten() {
            known.durable = Some(known.ack(*session, tree_size));
            if known.until == 0 {
                // Written by a version that did not say.
                known.until = tree_size;
            }
        }
        Self { devices, ..Self::default() }
    }

    /// All devices' sessions, for a snapshot.
    pub fn devices(&self) -> &BTreeMap<Name, BTreeMap<Session, SessionLog>> {
        &self.devices
    }

    fn change(&mut self, name: &Name, session: Session) -> &mut SessionLog {
        self.changed.insert((name.clone(), session));
        self.devices.entry(name.clone()).or_default().entry(session).or_default()
    }

    fn get(&self, name: &Name, session: Session) -> Option<&SessionLog> {
        self.devices.get(name)?.get(&session)
    }

    /// Whether a message is in the log.
    pub fn has(&self, name: &Name, session: Session, seq: u64) -> bool {
        self.get(name, session).is_some_and(|known| known.logged.contains(seq))
    }

    /// Whether the last will that ends this birth, or a later one, is in the log.
    pub fn has_ended(&self, name: &Name, session: Session, birth: u64) -> bool {
        self.get(name, session).is_some_and(|known| known.ended >= birth)
    }

    /// A message goes into the log.
    pub fn log(&mut self, name: &Name, session: Session, seq: u64) {
        let known = self.change(name, session);
        known.logged.insert(seq);
        known.settled.insert(seq);
        // If its first message does not name it, something did before.
        known.named.get_or_insert(0);
    }

    /// A last will goes into the log.
    pub fn end(&mut self, name: &Name, session: Session, birth: u64) {
        let known = self.change(name, session);
        known.ended = known.ended.max(birth);
    }

    /// The device says that these messages are lost.
    pub fn lose(&mut self, name: &Name, session: Session, from_seq: u64, to_seq: u64) {
        self.change(name, session).settled.insert_range(from_seq, to_seq);
    }

    /// The device says that an older session of it went up to `seq`.
    pub fn announce(&mut self, name: &Name, session: Session, seq: u64) {
        let known = self.change(name, session);
        known.announced = known.announced.max(seq);
    }

    /// It stands in the log at this index, or later, whose certificate counts in a session.
    pub fn name(&mut self, name: &Name, session: Session, index: u64) {
        let known = self.devices.entry(name.clone()).or_default().entry(session).or_default();
        known.named = known.named.max(Some(index));
    }

    /// Where in the log it stands at the earliest whose certificate counts in a session; `None` if it has no entries yet.
    pub fn named(&self, name: &Name, session: Session) -> Option<u64> {
        self.get(name, session)?.named
    }

    /// The sessions that have entries from `first` on, but whose certificate may stand before `minimum`.
    pub fn unnamed(&self, first: u64, minimum: u64) -> Vec<(Name, Session)> {
        let sessions = self.devices.iter().flat_map(|(name, sessions)| sessions.iter().map(move |of| (name, of)));
        sessions
            .filter(|(_, (_, known))| known.until > first && known.named.unwrap_or(0) < minimum)
            .map(|(name, (session, _))| (name.clone(), *session))
            .collect()
    }

    /// The device repeats something that is in the log: it has not heard the acknowledgement.
    pub fn repeat(&mut self, name: &Name, session: Session) {
        self.again.insert((name.clone(), session));
    }

    /// All that was logged so far is durable, in a log of `tree_size` entries.
    pub fn durable(&mut self, tree_size: u64) {
        for (name, session) in std::mem::take(&mut self.changed) {
            if let Some(known) = self.devices.get_mut(&name).and_then(|sessions| sessions.get_mut(&session)) {
                known.durable = Some(known.ack(session, tree_size));
                known.until = tree_size;
                self.due.insert((name, session));
            }
        }
    }

    /// The acknowledgements that are to go out now.
    pub fn acks(&mut self, now: BootTime) -> Vec<(Name, Ack)> {
        let mut acks = Vec::new();
        for key in std::mem::take(&mut self.again) {
            match self.get(&key.0, key.1).and_then(|known| known.durable.clone()) {
                Some(ack) => {
                    self.due.remove(&key);
                    self.acknowledged.insert(key.0.clone(), now);
                    acks.push((key.0, ack));
                }
                // Nothing of it is durable yet; it will be due when it is.
                None => continue,
            }
        }
        let waits = |name: &Name, last: &BTreeMap<Name, BootTime>| {
            last.get(name).is_some_and(|last| now.since(*last) < ACK_EVERY)
        };
        for key in std::mem::take(&mut self.due) {
            if waits(&key.0, &self.acknowledged) {
                self.due.insert(key);
                continue;
            }
            if let Some(ack) = self.get(&key.0, key.1).and_then(|known| known.durable.clone()) {
                self.acknowledged.insert(key.0.clone(), now);
                acks.push((key.0, ack));
            }
        }
        acks
    }
}

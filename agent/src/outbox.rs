//! What this agent said and the anchor has not acknowledged.
//!
//! Every logged message waits here until an ack says that it is on the anchor's disk. What the ack names as missing, and
//! what stays unacknowledged for long, is due to be said again. When there is no room, the oldest measurements go first,
//! never events or setpoints, and the loss is declared.

use std::collections::BTreeMap;

use grid_protocol::author::Signed;
use grid_protocol::message::{Ack, Session};
use grid_protocol::topic::{Kind, Topic};
use grid_protocol::units::{BootTime, Millis};

/// A message that an ack names as missing is said again at most this often: the anchor needs time to write.
const MISSING_AGAIN: Millis = Millis(2000);

/// A range of messages that is lost for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Their session.
    pub of: Session,
    /// The first.
    pub from_seq: u64,
    /// The last.
    pub to_seq: u64,
}

#[derive(Clone, Debug)]
struct Held {
    topic: Topic,
    payload: Vec<u8>,
    kept: BootTime,
    said: BootTime,
    missing: bool,
}

/// Messages that wait for an ack.
#[derive(Clone, Debug)]
pub struct Outbox {
    held: BTreeMap<(Session, u64), Held>,
    bytes: usize,
    capacity: usize,
    /// What had to go and is not declared yet, one range a session. A range may span messages that are still held.
    lost: BTreeMap<Session, Lost>,
}

impl Outbox {
    /// An empty outbox that holds at most about `capacity` bytes of payload.
    pub fn new(capacity: usize) -> Self {
        Self { held: BTreeMap::new(), bytes: 0, capacity, lost: BTreeMap::new() }
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Keeps a numbered message until it is acknowledged. What has to go for it is for [`Outbox::take_losses`] to tell.
    pub fn keep(&mut self, session: Session, signed: &Signed, now: BootTime) {
        let Some(seq) = signed.seq else { return };
        self.bytes += signed.payload.len();
        let (topic, payload) = (signed.topic.clone(), signed.payload.clone());
        self.held.insert((session, seq), Held { topic, payload, kept: now, said: now, missing: false });
        while self.bytes > self.capacity {
            let measurements = self.held.iter().filter(|(_, held)| held.topic.kind == Kind::Measurement);
            let Some((of, seq)) = measurements.min_by_key(|(_, held)| held.kept).map(|(key, _)| *key) else { return };
            self.forget(of, seq);
            let range = self.lost.entry(of).or_insert(Lost { of, from_seq: seq, to_seq: seq });
            range.from_seq = range.from_seq.min(seq);
            range.to_seq = range.to_seq.max(seq);
        }
    }

    /// What had to go since the last call.
    pub fn take_losses(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost).into_values().collect()
    }

    fn forget(&mut self, session: Session, seq: u64) {
        if let Some(held) = self.held.remove(&(session, seq)) {
            self.bytes -= held.payload.len();
        }
    }

    /// Takes a verified ack: what it covers is forgotten, what it misses is due.
    pub fn acknowledged(&mut self, ack: &Ack) {
        let covered: Vec<u64> =
            self.held.range((ack.of, 0)..=(ack.of, ack.through)).map(|((_, seq), _)| *seq).collect();
        for seq in covered {
            let missing = ack.missing.iter().any(|(first, last)| (*first..=*last).contains(&seq));
            match self.held.get_mut(&(ack.of, seq)) {
                Some(held) if missing => held.missing = true,
                Some(_) | None => self.forget(ack.of, seq),
            }
        }
    }

    /// The messages to be said again now, at most `most`: those that are missing, and those that were said last longer
    /// than `patience` ago.
    pub fn due(&mut self, now: BootTime, patience: Millis, most: usize) -> Vec<(Topic, Vec<u8>)> {
        let waits = |held: &Held| if held.missing { MISSING_AGAIN.min(patience) } else { patience };
        let due = self.held.values_mut().filter(|held| now.since(held.said) >= waits(held)).take(most);
        due.map(|held| {
            held.said = now;
            (held.topic.clone(), held.payload.clone())
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Session = Session(1);

    fn signed(seq: u64, kind: &str) -> Signed {
        let topic = format!("grid/demo/cp-1/{kind}").parse().unwrap();
        Signed { topic, seq: Some(seq), payload: vec![b'x'; 100] }
    }

    fn outbox(count: u64, capacity: usize) -> Outbox {
        let mut outbox = Outbox::new(capacity);
        for seq in 1..=count {
            outbox.keep(SESSION, &signed(seq, "measurement"), BootTime(seq));
        }
        outbox
    }

    fn ack(of: Session, through: u64, missing: &[(u64, u64)]) -> Ack {
        Ack { of, through, missing: missing.to_vec(), tree_size: 0 }
    }

    #[test]
    fn what_is_acknowledged_is_forgotten_and_what_is_missing_is_said_again() {
        let mut outbox = outbox(10, 10_000);
        outbox.acknowledged(&ack(SESSION, 8, &[(3, 4), (6, 6)]));
        assert_eq!(outbox.len(), 5);
        assert_eq!(outbox.due(BootTime(2100), Millis(9000), 100).len(), 3);
        assert!(outbox.due(BootTime(2200), Millis(9000), 100).is_empty());
        outbox.acknowledged(&ack(SESSION, 10, &[]));
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_ack_for_another_session_covers_nothing() {
        let mut outbox = outbox(3, 10_000);
        outbox.acknowledged(&ack(Session(2), 100, &[]));
        assert_eq!(outbox.len(), 3);
    }

    #[test]
    fn silence_makes_everything_due_a_few_at_a_time() {
        let mut outbox = outbox(10, 10_000);
        assert!(outbox.due(BootTime(5000), Millis(5000), 4).is_empty());
        assert_eq!(outbox.due(BootTime(6000), Millis(5000), 4).len(), 4);
        assert_eq!(outbox.due(BootTime(6000), Millis(5000), 100).len(), 6);
    }

    #[test]
    fn a_full_outbox_gives_up_its_oldest_measurements_and_says_so_once() {
        let mut outbox = Outbox::new(500);
        outbox.keep(SESSION, &signed(1, "event"), BootTime(1));
        for seq in 2..=5 {
            outbox.keep(SESSION, &signed(seq, "measurement"), BootTime(seq));
        }
        assert_eq!(outbox.take_losses(), []);
        // What was said again is no younger for that.
        assert_eq!(outbox.due(BootTime(9_000), Millis(5000), 2).len(), 2);
        outbox.keep(SESSION, &signed(6, "setpoint"), BootTime(6));
        outbox.keep(SESSION, &signed(7, "measurement"), BootTime(7));
        assert_eq!(outbox.take_losses(), [Lost { of: SESSION, from_seq: 2, to_seq: 3 }]);
        assert_eq!(outbox.take_losses(), []);
        assert_eq!(outbox.len(), 5);
    }

    #[test]
    fn events_and_setpoints_are_never_given_up() {
        let mut outbox = Outbox::new(100);
        for seq in 1..=5 {
            outbox.keep(SESSION, &signed(seq, "event"), BootTime(seq));
        }
        assert_eq!((outbox.len(), outbox.take_losses()), (5, Vec::new()));
    }
}

//! What waits in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use grid_protocol::message::Session;
use grid_protocol::sequence::Sequence;
use grid_protocol::units::BootTime;

use super::message::{Message, Shared, Worth};
use super::rounds::Turn;

/// What a message costs beside its payload: its topic, its place in the two maps.
const OVERHEAD: usize = 200;

#[derive(Clone, Debug)]
struct Waiting {
    message: Shared,
    kept: BootTime,
    said: BootTime,
    is_missing: bool,
    /// It is being written to disk: it stays until that is done.
    is_being_written: bool,
}

/// Messages in the order in which they were said.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    waiting: BTreeMap<u64, Waiting>,
    places: BTreeMap<(Session, u64), u64>,
    next: u64,
    bytes: usize,
}

fn cost(message: &Message) -> usize {
    message.payload.len() + OVERHEAD
}

impl Memory {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What all of them cost.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.waiting.values().map(|waiting| &*waiting.message)
    }

    pub fn holds(&self, session: Session) -> bool {
        self.places.range((session, 0)..=(session, u64::MAX)).next().is_some()
    }

    /// Which of a session's messages are here.
    pub fn of(&self, session: Session) -> Sequence {
        let mut held = Sequence::default();
        self.places.range((session, 0)..=(session, u64::MAX)).for_each(|((_, seq), _)| {
            held.insert(*seq);
        });
        held
    }

    pub fn keep(&mut self, message: Message, now: BootTime) {
        let place = self.next;
        self.next += 1;
        self.bytes += cost(&message);
        self.places.insert((message.session, message.seq), place);
        let message = Arc::new(message);
        let waiting = Waiting { message, kept: now, said: now, is_missing: false, is_being_written: false };
        self.waiting.insert(place, waiting);
    }

    /// Lets go of a message, if it is here.
    pub fn forget(&mut self, session: Session, seq: u64) -> Option<Shared> {
        let place = self.places.remove(&(session, seq))?;
        let waiting = self.waiting.remove(&place)?;
        self.bytes -= cost(&waiting.message);
        Some(waiting.message)
    }

    /// Lets go of what is settled in a session, up to `through`; of the rest, what is `missing` is due sooner.
    pub fn acknowledged(&mut self, session: Session, through: u64, settled: &Sequence, missing: &Sequence) {
        let seqs: Vec<u64> = self.places.range((session, 0)..=(session, through)).map(|((_, seq), _)| *seq).collect();
        for seq in seqs {
            if settled.contains(seq) {
                self.forget(session, seq);
            } else if missing.contains(seq)
                && let Some(waiting) = self.places.get(&(session, seq)).and_then(|place| self.waiting.get_mut(place))
            {
                waiting.is_missing = true;
            }
        }
    }

    /// Lets go of the oldest message that is worth so much, unless it is being written.
    pub fn give_up(&mut self, worth: Worth) -> Option<Shared> {
        let mut waiting = self.waiting.values().filter(|waiting| !waiting.is_being_written);
        let message = waiting.find(|waiting| waiting.message.worth() == worth)?.message.clone();
        self.forget(message.session, message.seq)
    }

    /// When the oldest was kept.
    pub fn oldest(&self) -> Option<BootTime> {
        self.waiting.values().next().map(|waiting| waiting.kept)
    }

    /// The first messages, in order, as long as they were kept by `until` and `take` wants them. They count as being
    /// written from here on.
    pub fn begin_to_write(&mut self, until: BootTime, mut take: impl FnMut(&Message) -> bool) -> Vec<Shared> {
        let old = self.waiting.values_mut().take_while(|waiting| waiting.kept <= until && take(&waiting.message));
        old.map(|waiting| {
            waiting.is_being_written = true;
            waiting.message.clone()
        })
        .collect()
    }

    /// Nothing is being written any more.
    pub fn write_ended(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.is_being_written = false);
    }

    /// What is to be said again.
    pub fn due(&mut self, now: BootTime, turn: Turn) -> Vec<Shared> {
        let is_due = |waiting: &&mut Waiting| {
            now.since(waiting.said) >= if waiting.is_missing { turn.soon } else { turn.patience }
        };
        let due = self.waiting.values_mut().filter(is_due).take(turn.most);
        due.map(|waiting| {
            waiting.said = now;
            waiting.message.clone()
        })
        .collect()
    }
}

//! What is lost for the log, until the log knows it.
//!
//! A loss is declared in a signed event, which is a message like others: it waits for its acknowledgement. So a loss is
//! forgotten only when the event that declares it is acknowledged, or is on disk. Until then it is part of the outbox's
//! state, and declared again after a crash; the log does not mind hearing it twice.

use std::collections::BTreeMap;

use grid_protocol::message::Session;
use grid_protocol::sequence::Sequence;
use serde::{Deserialize, Serialize};

/// A range of messages that is lost for the log. All in it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Their session.
    pub of: Session,
    /// The first.
    pub from_seq: u64,
    /// The last.
    pub to_seq: u64,
}

/// All losses that the log may not know.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    undeclared: BTreeMap<Session, Sequence>,
    /// By the message that declares them.
    declared: BTreeMap<(Session, u64), Vec<Lost>>,
}

impl Losses {
    /// Losses that were known before a restart.
    pub fn restore(lost: &[Lost]) -> Self {
        let mut losses = Self::default();
        lost.iter().for_each(|lost| losses.add(lost.of, |set| set.insert_range(lost.from_seq, lost.to_seq)));
        losses
    }

    fn add(&mut self, of: Session, change: impl FnOnce(&mut Sequence)) {
        change(self.undeclared.entry(of).or_default());
    }

    /// Notes more.
    pub fn lose(&mut self, of: Session, lost: &Sequence) {
        self.add(of, |set| set.insert_all(lost));
    }

    /// The next losses to declare, at most `most`. Each is to be given to [`Self::declared`] when it was.
    pub fn undeclared(&self, most: usize) -> Vec<Lost> {
        self.all_undeclared().take(most).collect()
    }

    fn all_undeclared(&self) -> impl Iterator<Item = Lost> {
        let range = |of: &Session, (from_seq, to_seq)| Lost { of: *of, from_seq, to_seq };
        self.undeclared.iter().flat_map(move |(of, lost)| lost.ranges().map(move |ends| range(of, ends)))
    }

    /// This message declares it.
    pub fn declared(&mut self, lost: Lost, by: (Session, u64)) {
        if let Some(undeclared) = self.undeclared.get_mut(&lost.of) {
            let mut these = Sequence::default();
            these.insert_range(lost.from_seq, lost.to_seq);
            *undeclared = undeclared.without(&these);
            if undeclared.is_empty() {
                self.undeclared.remove(&lost.of);
            }
        }
        self.declared.entry(by).or_default().push(lost);
    }

    /// These messages of a session are in the log or on disk: what they declare is safe. Says whether they declared any.
    pub fn safe(&mut self, session: Session, messages: &Sequence) -> bool {
        let before = self.declared.len();
        self.declared.retain(|(by, seq), _| *by != session || !messages.contains(*seq));
        self.declared.len() != before
    }

    /// All that the log may not know.
    pub fn all(&self) -> Vec<Lost> {
        self.all_undeclared().chain(self.declared.values().flatten().copied()).collect()
    }

    /// How many messages are lost and not declared.
    pub fn count_undeclared(&self) -> u64 {
        self.undeclared.values().map(Sequence::count).sum()
    }

    /// Whether a session has any.
    pub fn are_of(&self, session: Session) -> bool {
        self.undeclared.contains_key(&session) || self.declared.values().flatten().any(|lost| lost.of == session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Session = Session(1);
    const NEW: Session = Session(2);

    fn of(ranges: &[(u64, u64)]) -> Sequence {
        let mut sequence = Sequence::default();
        ranges.iter().for_each(|(first, last)| sequence.insert_range(*first, *last));
        sequence
    }

    fn lost(from_seq: u64, to_seq: u64) -> Lost {
        Lost { of: OLD, from_seq, to_seq }
    }

    #[test]
    fn a_loss_is_known_until_the_event_that_declares_it_is_safe() {
        let mut losses = Losses::default();
        losses.lose(OLD, &of(&[(3, 5), (9, 9)]));
        assert_eq!(losses.undeclared(1), [lost(3, 5)]);
        losses.declared(lost(3, 5), (NEW, 7));
        assert_eq!(losses.undeclared(9), [lost(9, 9)]);
        losses.declared(lost(9, 9), (NEW, 8));
        assert_eq!((losses.undeclared(9), losses.count_undeclared()), (vec![], 0));
        assert_eq!(losses.all(), [lost(3, 5), lost(9, 9)]);
        assert!(losses.safe(NEW, &of(&[(7, 7)])) && !losses.safe(OLD, &of(&[(8, 8)])));
        assert_eq!(losses.all(), [lost(9, 9)]);
        assert!(losses.are_of(OLD) && !losses.are_of(NEW));
        assert_eq!(Losses::restore(&losses.all()).undeclared(9), [lost(9, 9)]);
    }
}

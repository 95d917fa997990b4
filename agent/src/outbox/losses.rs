//! What is lost for the log, until the log knows it.
//!
//! A loss is declared in a signed event, which is a message like others: it waits for its acknowledgement, and can be lost
//! itself. So a loss is forgotten only when the log knows it: when an ack covers the lost messages, or the event. Until
//! then it is part of the outbox's state, and declared again after a restart; the log does not mind hearing it twice. Few
//! declarations wait at a time, so that what fills the outbox is not what tells that it is full: losses that nobody hears
//! of grow together meanwhile.

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
    /// Takes up losses that were known before a restart.
    pub fn restore(&mut self, lost: &[Lost]) {
        lost.iter().for_each(|lost| self.add(lost));
    }

    fn add(&mut self, lost: &Lost) {
        self.undeclared.entry(lost.of).or_default().insert_range(lost.from_seq, lost.to_seq);
    }

    /// Notes more. What a lost message declared is not declared.
    pub fn lose(&mut self, of: Session, lost: &Sequence) {
        self.undeclared.entry(of).or_default().insert_all(lost);
        let declared = std::mem::take(&mut self.declared);
        let (gone, left) = declared.into_iter().partition(|((by, seq), _)| *by == of && lost.contains(*seq));
        self.declared = left;
        let gone: BTreeMap<(Session, u64), Vec<Lost>> = gone;
        gone.into_values().flatten().for_each(|lost| self.add(&lost));
    }

    /// The next losses to declare, as long as fewer than `most` declarations wait for their acknowledgement. Each is to
    /// be given to [`Self::declared`] when it was.
    pub fn undeclared(&self, most: usize) -> Vec<Lost> {
        self.all_undeclared().take(most.saturating_sub(self.declared.len())).collect()
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

    /// These messages of a session are in the log, or declared lost there. Says whether that was news. An ack names 32
    /// missing ranges at most, so the lost messages may be covered long before the events that declare them.
    pub fn acknowledged(&mut self, session: Session, messages: &Sequence) -> bool {
        let before = (self.count_undeclared(), self.declared.len());
        if let Some(undeclared) = self.undeclared.get_mut(&session) {
            *undeclared = undeclared.without(messages);
        }
        self.undeclared.retain(|_, lost| !lost.is_empty());
        let is_covered = |lost: &Lost| {
            let mut these = Sequence::default();
            these.insert_range(lost.from_seq, lost.to_seq);
            lost.of == session && these.without(messages).is_empty()
        };
        self.declared.retain(|(by, seq), lost| {
            lost.retain(|lost| !is_covered(lost));
            !lost.is_empty() && (*by != session || !messages.contains(*seq))
        });
        (self.count_undeclared(), self.declared.len()) != before
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
    fn a_loss_is_known_until_the_event_that_declares_it_is_acknowledged() {
        let mut losses = Losses::default();
        losses.lose(OLD, &of(&[(3, 5), (9, 9)]));
        assert_eq!(losses.undeclared(1), [lost(3, 5)]);
        losses.declared(lost(3, 5), (NEW, 7));
        assert_eq!(losses.undeclared(9), [lost(9, 9)]);
        losses.declared(lost(9, 9), (NEW, 8));
        assert_eq!((losses.undeclared(9), losses.count_undeclared()), (vec![], 0));
        assert_eq!(losses.all(), [lost(3, 5), lost(9, 9)]);
        assert!(losses.acknowledged(NEW, &of(&[(7, 7)])) && !losses.acknowledged(OLD, &of(&[(8, 8)])));
        assert_eq!(losses.all(), [lost(9, 9)]);
        assert!(losses.are_of(OLD) && !losses.are_of(NEW));
        let mut restored = Losses::default();
        restored.restore(&losses.all());
        assert_eq!(restored.undeclared(9), [lost(9, 9)]);
    }

    #[test]
    fn few_declarations_wait_at_a_time_and_what_is_lost_meanwhile_grows_together() {
        let mut losses = Losses::default();
        losses.lose(OLD, &of(&[(1, 1), (3, 3), (5, 5)]));
        for (seq, one) in (7..).zip(losses.undeclared(2)) {
            losses.declared(one, (NEW, seq));
        }
        assert_eq!(losses.undeclared(2), []);
        losses.lose(OLD, &of(&[(4, 4), (6, 6)]));
        losses.acknowledged(NEW, &of(&[(7, 7)]));
        assert_eq!(losses.undeclared(2), [lost(4, 6)]);
    }

    #[test]
    fn a_loss_that_an_ack_covers_is_known_to_the_log_whatever_becomes_of_the_event() {
        let mut losses = Losses::default();
        losses.lose(OLD, &of(&[(3, 5), (7, 9)]));
        losses.declared(lost(3, 5), (OLD, 900));
        assert!(!losses.acknowledged(OLD, &of(&[(1, 4)])));
        assert!(losses.acknowledged(OLD, &of(&[(1, 7)])));
        assert_eq!(losses.all(), [lost(8, 9)]);
    }

    #[test]
    fn what_a_lost_event_declared_is_declared_anew() {
        let mut losses = Losses::default();
        losses.lose(OLD, &of(&[(3, 5)]));
        losses.declared(lost(3, 5), (NEW, 7));
        losses.lose(NEW, &of(&[(7, 7)]));
        assert_eq!(losses.undeclared(9), [lost(3, 5), Lost { of: NEW, from_seq: 7, to_seq: 7 }]);
    }
}

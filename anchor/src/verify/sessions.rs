//! The messages of each device session: which are in the log, and what became of the others.
//!
//! A device numbers what it says 1, 2, 3 … in each session. A number that is not where it belongs has one of four
//! explanations ([`Explanation`]). How far a session went beyond its last message in the log, the next birth says.

use std::collections::BTreeMap;

use grid_protocol::message::Session;
use grid_protocol::topic::Name;
use serde::Serialize;

use crate::sequence::Sequence;

/// A device session, as gaps and failures name it.
pub type DeviceSession = (Name, Session);

/// Messages of a session that are not where they belong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Whose.
    pub device: Name,
    /// In which session.
    pub session: Session,
    /// The first.
    pub from_seq: u64,
    /// The last.
    pub to_seq: u64,
    /// What became of them.
    pub explanation: Explanation,
}

impl Gap {
    /// How many messages.
    pub fn count(&self) -> u64 {
        self.to_seq - self.from_seq + 1
    }
}

/// What became of messages that are not where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Explanation {
    /// They stand in the log, behind later ones: the device replayed them.
    ReplayedLater,
    /// They are not there, and their sender says that they are lost.
    DeclaredLost,
    /// They would stand in what retention dropped, if they were there.
    Dropped,
    /// They are not there, and nobody says why.
    Unexplained,
}

/// What is known of one session.
#[derive(Default)]
struct Known {
    logged: Sequence,
    lost: Sequence,
    late: Sequence,
    announced: u64,
    first: Option<u64>,
    is_reported: bool,
}

/// All sessions of a log.
pub struct Sessions {
    known: BTreeMap<DeviceSession, Known>,
    /// Whether entries were dropped in front.
    is_pruned: bool,
}

/// What came of all sessions.
#[derive(Default)]
pub struct Summary {
    /// How many there are.
    pub sessions: u64,
    /// How many messages each sender said.
    pub by_sender: BTreeMap<Name, u64>,
    /// What is not where it belongs.
    pub gaps: Vec<Gap>,
}

impl Sessions {
    /// None yet.
    pub fn new(is_pruned: bool) -> Self {
        Self { known: BTreeMap::new(), is_pruned }
    }

    fn known(&mut self, name: &Name, session: Session) -> &mut Known {
        self.known.entry((name.clone(), session)).or_default()
    }

    /// A message that holds. Says whether it is the first with its number. A session is told of if one of its messages
    /// is in what is reported.
    pub fn log(&mut self, name: &Name, session: Session, seq: u64, is_reported: bool) -> bool {
        let known = self.known(name, session);
        known.first.get_or_insert(seq);
        known.is_reported |= is_reported;
        let highest = known.logged.highest();
        let is_new = known.logged.insert(seq);
        if is_new && seq < highest {
            known.late.insert(seq);
        }
        is_new
    }

    /// The device says that an older session of it went up to `seq`.
    pub fn announce(&mut self, name: &Name, session: Session, seq: u64, is_reported: bool) {
        let known = self.known(name, session);
        known.announced = known.announced.max(seq);
        known.is_reported |= is_reported;
    }

    /// The device says that these messages are lost.
    pub fn lose(&mut self, name: &Name, session: Session, (from_seq, to_seq): (u64, u64), is_reported: bool) {
        let known = self.known(name, session);
        known.lost.insert_range(from_seq, to_seq);
        known.is_reported |= is_reported;
    }

    /// What came of them all.
    pub fn summary(self) -> Summary {
        let mut summary = Summary::default();
        for ((device, session), known) in self.known.into_iter().filter(|(_, known)| known.is_reported) {
            summary.sessions += u64::from(known.logged.count() > 0);
            *summary.by_sender.entry(device.clone()).or_default() += known.logged.count();
            let found = known.explained(self.is_pruned).into_iter();
            summary.gaps.extend(found.map(|(from_seq, to_seq, explanation)| {
                let device = device.clone();
                Gap { device, session, from_seq, to_seq, explanation }
            }));
        }
        summary
    }
}

impl Known {
    /// Ranges with what became of them, by number.
    fn explained(&self, is_pruned: bool) -> Vec<(u64, u64, Explanation)> {
        let end = self.logged.highest().max(self.lost.highest()).max(self.announced);
        // What came before the first message that is left may have stood in what was dropped.
        let untold = if is_pruned { self.first.unwrap_or(end.saturating_add(1)) } else { 0 };
        let mut found: Vec<(u64, u64, Explanation)> =
            self.late.ranges().map(|(from, to)| (from, to, Explanation::ReplayedLater)).collect();
        for (from, to) in self.logged.missing_through(end) {
            found.extend(within(&self.lost, from, to).map(|(from, to)| (from, to, Explanation::DeclaredLost)));
        }
        let mut settled = self.logged.clone();
        self.lost.ranges().for_each(|(from, to)| settled.insert_range(from, to));
        for (from, to) in settled.missing_through(end) {
            if from < untold {
                found.push((from, to.min(untold - 1), Explanation::Dropped));
            }
            if to >= untold {
                found.push((from.max(untold), to, Explanation::Unexplained));
            }
        }
        found.sort_unstable();
        found
    }
}

/// The parts of a set's ranges that lie between two numbers.
fn within(set: &Sequence, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
    set.ranges().map(move |(first, last)| (first.max(from), last.min(to))).filter(|(first, last)| first <= last)
}

#[cfg(test)]
mod tests {
    use super::Explanation::{DeclaredLost, Dropped, ReplayedLater, Unexplained};
    use super::*;

    const SESSION: Session = Session(7);

    fn gaps(sessions: Sessions) -> Vec<(u64, u64, Explanation)> {
        let gaps = sessions.summary().gaps.into_iter();
        gaps.map(|gap| (gap.from_seq, gap.to_seq, gap.explanation)).collect()
    }

    fn logged(is_pruned: bool, seqs: &[u64]) -> Sessions {
        let mut sessions = Sessions::new(is_pruned);
        for seq in seqs {
            assert!(sessions.log(&"cp-1".parse().unwrap(), SESSION, *seq, true));
        }
        sessions
    }

    #[test]
    fn a_session_in_order_has_no_gaps() {
        assert_eq!(gaps(logged(false, &[1, 2, 3])), []);
        let summary = logged(false, &[1, 2, 3]).summary();
        assert_eq!((summary.sessions, summary.by_sender[&"cp-1".parse().unwrap()]), (1, 3));
    }

    #[test]
    fn each_gap_has_its_explanation() {
        let device = "cp-1".parse().unwrap();
        let mut sessions = logged(false, &[1, 2, 6, 3, 4, 20]);
        sessions.lose(&device, SESSION, (5, 10), true);
        sessions.announce(&device, SESSION, 22, true);
        let expected = [
            (3, 4, ReplayedLater),
            (5, 5, DeclaredLost),
            (7, 10, DeclaredLost),
            (11, 19, Unexplained),
            (21, 22, Unexplained),
        ];
        assert_eq!(gaps(sessions), expected);
    }

    #[test]
    fn what_may_have_been_dropped_is_not_called_missing() {
        assert_eq!(gaps(logged(true, &[5, 6, 9])), [(1, 4, Dropped), (7, 8, Unexplained)]);
        let mut announced = Sessions::new(true);
        announced.announce(&"cp-1".parse().unwrap(), SESSION, 4, true);
        assert_eq!(gaps(announced), [(1, 4, Dropped)]);
    }

    #[test]
    fn sessions_that_are_not_asked_for_are_not_told() {
        let mut sessions = Sessions::new(false);
        sessions.log(&"cp-1".parse().unwrap(), SESSION, 4, false);
        assert_eq!(gaps(sessions), []);
    }
}

//! When an entry was received, as the ledger knows it.
//!
//! The anchor writes into an entry when it received the message, and nobody else was there. But records are added to the
//! ledger one at a time, each with the head of the log as it was after the record before it was there. So an entry that
//! record *k* is the first to cover was received not after the time of record *k*; and since it is newer than the head in
//! record *k* − 1, which was made when record *k* − 2 was on the ledger, after the time of record *k* − 2.

use grid_protocol::units::UnixMillis;
use serde::Serialize;

/// Clocks that differ by more are worth a remark: an anchor's clock is set by NTP, the ledger's by its validators.
pub const TOLERANCE_MS: u64 = 5 * 60 * 1000;

/// Between which times something happened, on the ledger's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bracket {
    /// Not before, if that is known.
    pub from_ms: Option<UnixMillis>,
    /// Not after, if that is known.
    pub until_ms: Option<UnixMillis>,
}

impl Bracket {
    /// The time in the bracket that is next to this one.
    pub fn clamp(self, at: UnixMillis) -> UnixMillis {
        let at = self.until_ms.map_or(at, |until| at.min(until));
        self.from_ms.map_or(at, |from| at.max(from))
    }

    /// Whether a time is further outside than clocks differ.
    pub fn excludes(self, at: UnixMillis) -> bool {
        self.clamp(at).0.abs_diff(at.0) > TOLERANCE_MS
    }
}

/// The ledger's records of a log: for each, in order, how many entries it covers, and when it was added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brackets(Vec<(u64, UnixMillis)>);

impl Brackets {
    /// From the records in order, whose sizes never fall.
    pub fn new(records: Vec<(u64, UnixMillis)>) -> Self {
        Self(records)
    }

    /// When the entry with this index was received.
    pub fn of(&self, index: u64) -> Bracket {
        let covering = self.0.partition_point(|(size, _)| *size <= index);
        let time = |record: usize| self.0.get(record).map(|(_, added)| *added);
        Bracket { from_ms: covering.checked_sub(2).and_then(time), until_ms: time(covering) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn bracket(from: Option<u64>, until: Option<u64>) -> Bracket {
        let minutes = |at: u64| UnixMillis(at * MINUTE);
        Bracket { from_ms: from.map(minutes), until_ms: until.map(minutes) }
    }

    #[test]
    fn an_entry_is_older_than_the_first_record_that_covers_it_and_newer_than_two_before() {
        let records = [(10, 100), (20, 200), (20, 250), (30, 300)];
        let brackets = Brackets::new(records.map(|(size, at)| (size, UnixMillis(at * MINUTE))).to_vec());
        assert_eq!(brackets.of(0), bracket(None, Some(100)));
        assert_eq!(brackets.of(9), bracket(None, Some(100)));
        assert_eq!(brackets.of(10), bracket(None, Some(200)));
        assert_eq!(brackets.of(20), bracket(Some(200), Some(300)));
        assert_eq!(brackets.of(29), bracket(Some(200), Some(300)));
        assert_eq!(brackets.of(30), bracket(Some(250), None));
        assert_eq!(Brackets::default().of(5), bracket(None, None));
    }

    #[test]
    fn times_outside_are_moved_to_the_edge_and_remarked_beyond_five_minutes() {
        let bracket = bracket(Some(100), Some(200));
        let at = |minutes: u64, ms: u64| UnixMillis(minutes * MINUTE + ms);
        for (claimed, taken, is_outside) in [
            (at(150, 0), at(150, 0), false),
            (at(95, 0), at(100, 0), false),
            (at(94, 59_999), at(100, 0), true),
            (at(205, 0), at(200, 0), false),
            (at(205, 1), at(200, 0), true),
        ] {
            assert_eq!((bracket.clamp(claimed), bracket.excludes(claimed)), (taken, is_outside), "{claimed:?}");
        }
    }
}

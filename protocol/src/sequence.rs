//! Sets of sequence numbers: which of 1, 2, 3 … are there.

use serde::{Deserialize, Serialize};

/// A set of numbers from 1, kept as ranges. A session without gaps is one range however long it lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Sequence(Vec<(u64, u64)>);

impl From<Sequence> for Vec<(u64, u64)> {
    fn from(sequence: Sequence) -> Self {
        sequence.0
    }
}

/// Ranges that are not those of a [`Sequence`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} are not ranges of numbers from 1, in order and apart from each other")]
pub struct BadRanges(Vec<(u64, u64)>);

impl TryFrom<Vec<(u64, u64)>> for Sequence {
    type Error = BadRanges;

    fn try_from(ranges: Vec<(u64, u64)>) -> Result<Self, BadRanges> {
        let apart = |pair: &[(u64, u64)]| pair[0].1.saturating_add(1) < pair[1].0;
        if ranges.iter().all(|(first, last)| (1..=*last).contains(first)) && ranges.windows(2).all(apart) {
            Ok(Self(ranges))
        } else {
            Err(BadRanges(ranges.into_iter().take(8).collect()))
        }
    }
}

impl Sequence {
    /// Whether `seq` is in it.
    pub fn contains(&self, seq: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= seq);
        after.checked_sub(1).is_some_and(|at| seq <= self.0[at].1)
    }

    /// Adds `seq`. Says whether it is new.
    pub fn insert(&mut self, seq: u64) -> bool {
        if self.contains(seq) {
            return false;
        }
        self.insert_range(seq, seq);
        true
    }

    /// Adds `first` to `last`. A range that starts at 0 or ends before it starts adds nothing at 0, or nothing at all.
    pub fn insert_range(&mut self, first: u64, last: u64) {
        let mut first = first.max(1);
        let mut last = last;
        if last < first {
            return;
        }
        // All ranges that touch or overlap the new one become one with it.
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(start, _)| *start <= last.saturating_add(1));
        if let Some(touched) = self.0.get(from..to).filter(|touched| !touched.is_empty()) {
            first = first.min(touched[0].0);
            last = last.max(touched[touched.len() - 1].1);
        }
        self.0.splice(from..to.max(from), [(first, last)]);
    }

    /// Adds all of `other`.
    pub fn insert_all(&mut self, other: &Self) {
        other.ranges().for_each(|(first, last)| self.insert_range(first, last));
    }

    /// What is in it and not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for (first, last) in self.ranges() {
            let mut next = Some(first);
            let begin = other.0.partition_point(|(_, end)| *end < first);
            for (start, end) in other.0[begin..].iter().take_while(|(start, _)| *start <= last) {
                left.extend(next.filter(|next| next < start).map(|next| (next, start - 1)));
                next = end.checked_add(1);
            }
            left.extend(next.filter(|next| *next <= last).map(|next| (next, last)));
        }
        Self(left)
    }

    /// What is both in it and in `other`.
    pub fn within(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// Whether no number is there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest number through which all are there; 0 if 1 is not.
    pub fn through(&self) -> u64 {
        self.0.first().filter(|(first, _)| *first == 1).map_or(0, |(_, last)| *last)
    }

    /// The highest number that is there; 0 if none is.
    pub fn highest(&self) -> u64 {
        self.0.last().map_or(0, |(_, last)| *last)
    }

    /// The ranges that are there, first and last inclusive.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// How many numbers are there.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The ranges up to `end`, first and last inclusive, that are not there.
    pub fn missing_through(&self, end: u64) -> impl Iterator<Item = (u64, u64)> {
        let starts = std::iter::once(1).chain(self.0.iter().map(|(_, last)| last.saturating_add(1)));
        let ends = self.0.iter().map(|(first, _)| first - 1).chain([u64::MAX]);
        starts.zip(ends).map(move |(first, last)| (first, last.min(end))).filter(|(first, last)| first <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn of(ranges: &[(u64, u64)]) -> Sequence {
        let mut sequence = Sequence::default();
        for (first, last) in ranges {
            sequence.insert_range(*first, *last);
        }
        sequence
    }

    #[test]
    fn numbers_in_order_are_one_range() {
        let mut sequence = Sequence::default();
        assert!((1..=1000).all(|seq| sequence.insert(seq)));
        assert!(!sequence.insert(500));
        assert_eq!(sequence, of(&[(1, 1000)]));
        assert_eq!((sequence.through(), sequence.highest(), sequence.count()), (1000, 1000, 1000));
    }

    #[test]
    fn holes_are_named_and_closed() {
        let mut sequence = of(&[(3, 4), (7, 7)]);
        assert_eq!(sequence.through(), 0);
        assert_eq!(sequence.missing_through(9).collect::<Vec<_>>(), [(1, 2), (5, 6), (8, 9)]);
        assert_eq!(sequence.missing_through(7).collect::<Vec<_>>(), [(1, 2), (5, 6)]);
        sequence.insert_range(1, 6);
        assert_eq!(sequence, of(&[(1, 7)]));
    }

    #[test]
    fn ranges_that_say_nothing_add_nothing() {
        assert_eq!(of(&[(5, 4), (0, 0)]), Sequence::default());
        assert_eq!(of(&[(0, 2)]), of(&[(1, 2)]));
        assert_eq!(of(&[(1, u64::MAX), (4, 4)]).through(), u64::MAX);
        assert_eq!(of(&[(1, u64::MAX)]).without(&of(&[(5, u64::MAX)])), of(&[(1, 4)]));
    }

    #[test]
    fn only_ranges_in_order_read_back() {
        for good in ["[]", "[[1,1]]", "[[1,3],[5,18446744073709551615]]"] {
            let sequence: Sequence = serde_json::from_str(good).unwrap();
            assert_eq!(serde_json::to_string(&sequence).unwrap(), good);
        }
        for bad in [
            "[[0,1]]",
            "[[2,1]]",
            "[[1,3],[4,5]]",
            "[[1,3],[2,5]]",
            "[[5,6],[1,2]]",
            "[[1,18446744073709551615],[3,4]]",
        ] {
            assert!(serde_json::from_str::<Sequence>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn it_agrees_with_a_plain_set() {
        let mut state = 7u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let (mut sequence, mut plain) = (Sequence::default(), BTreeSet::new());
            for _ in 0..40 {
                let first = draw(60) + 1;
                let last = first + draw(4);
                if first == last {
                    assert_eq!(sequence.insert(first), plain.insert(first));
                } else {
                    sequence.insert_range(first, last);
                    plain.extend(first..=last);
                }
            }
            assert!((1..80).all(|seq| sequence.contains(seq) == plain.contains(&seq)));
            assert_eq!(sequence.count(), plain.len() as u64);
            let missing: Vec<u64> = sequence.missing_through(70).flat_map(|(first, last)| first..=last).collect();
            assert_eq!(missing, (1..=70).filter(|seq| !plain.contains(seq)).collect::<Vec<_>>());
            let (mut other, mut other_plain) = (Sequence::default(), BTreeSet::new());
            for _ in 0..draw(12) {
                let first = draw(60) + 1;
                other.insert_range(first, first + draw(8));
                other_plain.extend(other.ranges().flat_map(|(first, last)| first..=last));
            }
            let listed = |set: &Sequence| set.ranges().flat_map(|(first, last)| first..=last).collect::<Vec<_>>();
            let without: Vec<u64> = plain.difference(&other_plain).copied().collect();
            let within: Vec<u64> = plain.intersection(&other_plain).copied().collect();
            assert_eq!((listed(&sequence.without(&other)), listed(&sequence.within(&other))), (without, within));
            let mut both = sequence.clone();
            both.insert_all(&other);
            assert_eq!(listed(&both), plain.union(&other_plain).copied().collect::<Vec<_>>());
        }
    }
}

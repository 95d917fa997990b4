//! What one agent said, put back into the order in which it said it.

use std::collections::BTreeMap;

/// So many messages wait for one before them. An agent says one or two a second, so these are some hours; what has not
/// come by then is taken to be lost.
const MOST_WAITING: usize = 20_000;

/// Messages by their sequence number.
///
/// A log holds messages in the order in which they came, and those that had to be replayed came late.
#[derive(Debug)]
pub struct InOrder<T> {
    next: Option<u64>,
    waiting: BTreeMap<u64, T>,
}

impl<T> InOrder<T> {
    /// Begins with message `first`, or with whichever comes first: what is older is then left out.
    pub fn new(first: Option<u64>) -> Self {
        Self { next: first, waiting: BTreeMap::new() }
    }

    /// Takes a message, and hands over all whose turn it is. What was handed over once is not handed over again.
    pub fn push(&mut self, seq: u64, message: T, mut each: impl FnMut(T)) {
        let next = self.next.get_or_insert(seq);
        if seq < *next {
            return;
        }
        self.waiting.entry(seq).or_insert(message);
        if self.waiting.len() > MOST_WAITING
            && let Some(first) = self.waiting.keys().next()
        {
            *next = *first;
        }
        while let Some(message) = self.waiting.remove(next) {
            *next += 1;
            each(message);
        }
    }

    /// Nothing more will come: hands over the rest.
    pub fn finish(self, each: impl FnMut(T)) {
        self.waiting.into_values().for_each(each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(first: Option<u64>, came: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let mut order = InOrder::new(first);
        let (mut at_once, mut at_the_end) = (Vec::new(), Vec::new());
        came.iter().for_each(|seq| order.push(*seq, *seq, |seq| at_once.push(seq)));
        order.finish(|seq| at_the_end.push(seq));
        (at_once, at_the_end)
    }

    #[test]
    fn late_messages_take_their_place_and_copies_are_left_out() {
        assert_eq!(ordered(Some(1), &[2, 4, 1, 1, 2, 3, 6]), (vec![1, 2, 3, 4], vec![6]));
    }

    #[test]
    fn in_the_middle_of_a_log_it_begins_with_what_comes_first() {
        assert_eq!(ordered(None, &[7, 5, 8, 10]), (vec![7, 8], vec![10]));
    }

    #[test]
    fn what_never_comes_is_waited_for_only_so_long() {
        let came: Vec<u64> = (2..=2 + MOST_WAITING as u64).collect();
        let (at_once, at_the_end) = ordered(Some(1), &came);
        assert_eq!((at_once, at_the_end), (came, vec![]));
    }
}

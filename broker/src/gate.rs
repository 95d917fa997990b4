//! The gate in front of the router: why a reader never falls behind the router's logs.
//!
//! The router keeps one log per filter and forgets its oldest part when it is full, whether or not everybody has read
//! it; a reader that is too far behind loses messages, silently. And it never gives memory back, so the logs must be
//! small where filters are many. So publishers are held back instead.
//!
//! Every *reader* (the task of a client with subscriptions) also subscribes to an internal topic. After a **window**
//! of bytes, or of 500 messages, the broker publishes a *mark* there. Publishing goes on for one more window; when that is full and some
//! reader has not seen the mark yet, the gate closes: publishers are not read until the mark is back from all.
//! Readers take messages off the router at once into their own bounded queues and never wait for a socket, so this is
//! a matter of microseconds; but under a flood it is what makes a publisher go no faster than the broker can fan out.
//!
//! How much can be unread? The router serves the filters of one reader in turn, and between two looks at the
//! internal topic it looks at every other filter. So who has seen mark *k* has read all that was published before mark
//! *k − 1*; and nothing is published after mark *k + 1* is due and before *k* was seen by all. That makes three
//! windows, each with the message that filled it. [`crate::router`] gives the logs room for that.
//!
//! There are two kinds of window: one over all topics, for wildcard filters, and a smaller one for each topic that
//! somebody subscribed to by its exact name. A mark ends the current window of both kinds.
//!
//! This module is the bookkeeping, without I/O.

use std::collections::HashMap;

/// Messages in a window at most, however small they are: the router hands over at most 1000 at a look.
const WINDOW_MESSAGES: usize = 500;

/// Number of a mark; the first is 1.
pub type Mark = u64;

#[derive(Debug)]
struct ExactTopic {
    subscribers: usize,
    /// Bytes since mark `since`.
    bytes: usize,
    since: Mark,
}

/// Who has seen which mark, and whether publishers must wait.
#[derive(Debug)]
pub struct Gate {
    window: usize,
    exact_window: usize,
    /// Bytes published since the newest mark.
    bytes: usize,
    /// Messages published since the newest mark.
    messages: usize,
    exact: HashMap<String, ExactTopic>,
    newest: Mark,
    readers: HashMap<usize, Mark>,
    /// Readers that have not seen `newest`.
    behind: usize,
    /// A window is full, so the next mark is due.
    due: bool,
}

impl Gate {
    /// An open gate with windows of so many bytes over all topics, and for each exact topic.
    pub fn new(window: usize, exact_window: usize) -> Self {
        Self {
            window,
            exact_window,
            bytes: 0,
            messages: 0,
            exact: HashMap::new(),
            newest: 0,
            readers: HashMap::new(),
            behind: 0,
            due: false,
        }
    }

    /// Whether publishers must wait: a mark is due, and the one before it is still under way.
    pub fn is_closed(&self) -> bool {
        self.due && self.behind > 0
    }

    /// Whether a mark is under way.
    pub fn is_waiting(&self) -> bool {
        self.behind > 0
    }

    /// Counts a published message of `size` bytes. The mark returned must be published next.
    pub fn published(&mut self, topic: &str, size: usize) -> Option<Mark> {
        self.bytes += size;
        self.messages += 1;
        self.due |= self.bytes >= self.window || self.messages >= WINDOW_MESSAGES;
        if let Some(exact) = self.exact.get_mut(topic) {
            if exact.since != self.newest {
                exact.since = self.newest;
                exact.bytes = 0;
            }
            exact.bytes += size;
            self.due |= exact.bytes >= self.exact_window;
        }
        self.next_mark()
    }

    /// Notes that `reader` has taken `mark` off the router. The mark returned must be published next.
    pub fn seen(&mut self, reader: usize, mark: Mark) -> Option<Mark> {
        if let Some(seen) = self.readers.get_mut(&reader)
            && *seen < self.newest
            && mark == self.newest
        {
            *seen = mark;
            self.behind -= 1;
        }
        self.next_mark()
    }

    /// Counts `reader` from now on: it has subscribed to the marks.
    pub fn join(&mut self, reader: usize) {
        self.readers.insert(reader, self.newest);
    }

    /// Counts `reader` no longer. The mark returned must be published next.
    pub fn leave(&mut self, reader: usize) -> Option<Mark> {
        if self.readers.remove(&reader).is_some_and(|seen| seen < self.newest) {
            self.behind -= 1;
        }
        self.next_mark()
    }

    /// Counts a subscription to exactly `topic`.
    pub fn watch(&mut self, topic: &str) {
        let since = self.newest;
        self.exact.entry(topic.to_owned()).or_insert(ExactTopic { subscribers: 0, bytes: 0, since }).subscribers += 1;
    }

    /// Ends what [`watch`](Self::watch) began.
    pub fn unwatch(&mut self, topic: &str) {
        if let Some(exact) = self.exact.get_mut(topic) {
            exact.subscribers -= 1;
            if exact.subscribers == 0 {
                self.exact.remove(topic);
            }
        }
    }

    fn next_mark(&mut self) -> Option<Mark> {
        if !self.due || self.behind > 0 {
            return None;
        }
        self.due = false;
        self.bytes = 0;
        self.messages = 0;
        self.newest += 1;
        self.behind = self.readers.len();
        Some(self.newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_may_fill_two_windows_until_every_reader_has_seen_the_mark() {
        let mut gate = Gate::new(100, 100);
        gate.join(1);
        gate.join(2);
        assert_eq!(gate.published("t", 99), None);
        assert_eq!(gate.published("t", 1), Some(1));
        assert_eq!(gate.published("t", 99), None);
        assert!(!gate.is_closed());
        assert_eq!(gate.published("t", 1), None);
        assert!(gate.is_closed());
        assert_eq!(gate.seen(1, 1), None);
        assert_eq!(gate.seen(1, 1), None, "seeing it twice is seeing it once");
        assert!(gate.is_closed());
        assert_eq!(gate.seen(2, 1), Some(2), "the mark that was due");
        assert!(!gate.is_closed());
    }

    #[test]
    fn a_window_has_a_limited_number_of_messages_however_small_they_are() {
        let mut gate = Gate::new(usize::MAX, usize::MAX);
        for _ in 1..WINDOW_MESSAGES {
            assert_eq!(gate.published("t", 1), None);
        }
        assert_eq!(gate.published("t", 1), Some(1));
    }

    #[test]
    fn a_reader_that_leaves_holds_nobody_back() {
        let mut gate = Gate::new(10, 10);
        gate.join(1);
        assert_eq!(gate.published("t", 10), Some(1));
        assert_eq!(gate.published("t", 10), None);
        assert!(gate.is_closed());
        assert_eq!(gate.leave(1), Some(2));
        assert!(!gate.is_closed());
    }

    #[test]
    fn without_readers_the_gate_never_closes() {
        let mut gate = Gate::new(10, 10);
        for _ in 0..100 {
            gate.published("t", 10);
            assert!(!gate.is_closed());
        }
    }

    #[test]
    fn an_exact_topic_has_a_smaller_window_of_its_own_only_while_somebody_is_subscribed() {
        let mut gate = Gate::new(1000, 10);
        gate.watch("t");
        gate.watch("t");
        assert_eq!(gate.published("other", 10), None);
        assert_eq!(gate.published("t", 9), None);
        assert_eq!(gate.published("t", 1), Some(1));
        assert_eq!(gate.published("t", 9), None, "a mark begins a new window");
        gate.unwatch("t");
        assert_eq!(gate.published("t", 1), Some(2));
        gate.unwatch("t");
        assert_eq!(gate.published("t", 100), None);
    }

    #[test]
    fn who_joins_while_a_mark_is_under_way_is_not_waited_for() {
        let mut gate = Gate::new(10, 10);
        gate.join(1);
        assert_eq!(gate.published("t", 10), Some(1));
        gate.join(2);
        assert_eq!(gate.seen(1, 1), None);
        assert!(!gate.is_waiting());
        assert_eq!(gate.published("t", 10), Some(2));
    }
}

//! Retained messages: the newest of each topic, for those who subscribe later (MQTT 5 section 3.3.1.3).
//!
//! They live here and not in the router, which hands out only the first hundred or two, once, and lets an ordinary
//! empty message erase them. They are in memory only: a broker that restarts begins without any, and devices publish
//! their `status` again when they reconnect.

use std::collections::BTreeMap;

use crate::message::{Message, Millis};
use crate::topic;
use crate::wire;

/// The newest retained message of each topic, within limits.
#[derive(Debug)]
pub struct Retained {
    messages: BTreeMap<String, Message>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

/// What became of a message that asked to be retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept in place of its predecessor, or its predecessor was cleared by an empty payload.
    Done,
    /// There is no room for it; what was kept for its topic is gone, since it is no longer the newest.
    Full,
}

impl Retained {
    /// An empty store.
    pub fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self { messages: BTreeMap::new(), bytes: 0, max_messages, max_bytes }
    }

    /// How many messages are kept, and their bytes.
    pub fn figures(&self) -> (usize, usize) {
        (self.messages.len(), self.bytes)
    }

    /// Keeps a message whose RETAIN flag is set, or clears its topic if its payload is empty (\[MQTT-3.3.1-6\]).
    pub fn apply(&mut self, message: &Message) -> Outcome {
        if let Some(old) = self.messages.remove(&message.topic) {
            self.bytes -= old.size();
        }
        if message.payload.is_empty() {
            return Outcome::Done;
        }
        if self.messages.len() >= self.max_messages || self.bytes + message.size() > self.max_bytes {
            return Outcome::Full;
        }
        self.bytes += message.size();
        self.messages.insert(message.topic.clone(), message.clone());
        Outcome::Done
    }

    /// All messages that match `filter`, in the order of their topics. Expired ones are forgotten on the way.
    pub fn matching(&mut self, filter: &str, now: Millis) -> Vec<Message> {
        let bytes = &mut self.bytes;
        self.messages.retain(|_, message| {
            let alive = !wire::is_expired(message, now);
            if !alive {
                *bytes -= message.size();
            }
            alive
        });
        if !topic::has_wildcard(filter) {
            return self.messages.get(filter).cloned().into_iter().collect();
        }
        self.messages.values().filter(|message| topic::matches(filter, &message.topic)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Qos, tests::message};
    use bytes::Bytes;

    fn topics(found: &[Message]) -> Vec<&str> {
        found.iter().map(|message| message.topic.as_str()).collect()
    }

    #[test]
    fn the_newest_message_of_a_topic_is_kept_and_an_empty_one_clears_it() {
        let mut store = Retained::new(10, 1000);
        store.apply(&message("a", Qos::AtMostOnce, "1"));
        store.apply(&message("a", Qos::AtMostOnce, "2"));
        assert_eq!(store.matching("#", Millis(0))[0].payload, "2");
        store.apply(&message("a", Qos::AtMostOnce, ""));
        assert!(store.matching("#", Millis(0)).is_empty());
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn all_matching_messages_are_found() {
        let mut store = Retained::new(1000, 1_000_000);
        for number in 0..500 {
            store.apply(&message(&format!("a/{number:03}"), Qos::AtMostOnce, "x"));
        }
        store.apply(&message("$SYS/x", Qos::AtMostOnce, "x"));
        assert_eq!(store.matching("a/+", Millis(0)).len(), 500);
        assert_eq!(store.matching("#", Millis(0)).len(), 500);
        assert_eq!(topics(&store.matching("a/007", Millis(0))), ["a/007"]);
    }

    #[test]
    fn a_full_store_keeps_what_it_has_and_still_replaces() {
        let mut store = Retained::new(2, 1000);
        assert_eq!(store.apply(&message("a", Qos::AtMostOnce, "1")), Outcome::Done);
        assert_eq!(store.apply(&message("b", Qos::AtMostOnce, "1")), Outcome::Done);
        assert_eq!(store.apply(&message("c", Qos::AtMostOnce, "1")), Outcome::Full);
        assert_eq!(store.apply(&message("a", Qos::AtMostOnce, "2")), Outcome::Done);
        assert_eq!(topics(&store.matching("#", Millis(0))), ["a", "b"]);
    }

    #[test]
    fn an_expired_message_is_forgotten() {
        let mut store = Retained::new(10, 1000);
        // Property length 5, Message Expiry Interval (0x02), 1 second.
        let properties = Bytes::from_static(&[5, 2, 0, 0, 0, 1]);
        store.apply(&Message { properties, received: Millis(0), ..message("a", Qos::AtMostOnce, "x") });
        assert_eq!(store.matching("a", Millis(999)).len(), 1);
        assert_eq!(store.matching("a", Millis(1000)).len(), 0);
        assert_eq!(store.bytes, 0);
    }
}

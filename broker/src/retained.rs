//! Retained messages: the newest of each topic, for those who subscribe later (MQTT 5 section 3.3.1.3).
//!
//! They live here and not in the router, which hands out only the first hundred or two, once, and lets an ordinary
//! empty message erase them. They are in memory only: a broker that restarts begins without any, and devices publish
//! their `status` again when they reconnect.

use std::collections::{BTreeMap, HashMap};

use crate::access::{Owner, Rights};
use crate::message::{Message, Millis};
use crate::topic;
use crate::wire::properties;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Messages, which is topics.
    pub messages: usize,
    /// Bytes.
    pub bytes: usize,
    /// Messages of one owner, with the same exception.
    pub messages_of_one: usize,
    /// Bytes of what one owner published. Whoever is nobody in particular has no such limit.
    pub bytes_of_one: usize,
}

/// What is one owner's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    messages: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    message: Message,
    owner: Owner,
}

/// The newest retained message of each topic, within limits.
#[derive(Debug)]
pub struct Retained {
    kept: BTreeMap<String, Kept>,
    bytes: usize,
    by_owner: HashMap<Owner, Share>,
    room: Room,
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
    pub fn new(room: Room) -> Self {
        Self { kept: BTreeMap::new(), bytes: 0, by_owner: HashMap::new(), room }
    }

    /// How many messages are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a message of `owner` whose RETAIN flag is set, or clears its topic if its payload is empty
    /// (\[MQTT-3.3.1-6\]).
    pub fn apply(&mut self, message: &Message, owner: &Owner) -> Outcome {
        if let Some(old) = self.kept.remove(&message.topic) {
            self.uncount(&old.owner, old.message.size());
        }
        if message.payload.is_empty() {
            return Outcome::Done;
        }
        let size = message.size();
        let mut share = self.by_owner.get(owner).copied().unwrap_or_default();
        share.messages += 1;
        share.bytes += size;
        let too_much = share.messages > self.room.messages_of_one || share.bytes > self.room.bytes_of_one;
        let is_full = self.kept.len() >= self.room.messages || self.bytes + size > self.room.bytes;
        let refused = match owner {
            Owner::Broker => false,
            Owner::Anyone => is_full,
            Owner::Certified(_) | Owner::User(_) => is_full || too_much,
        };
        if refused {
            return Outcome::Full;
        }
        self.bytes += size;
        self.by_owner.insert(owner.clone(), share);
        self.kept.insert(message.topic.clone(), Kept { message: message.clone(), owner: owner.clone() });
        Outcome::Done
    }

    /// All messages that match `filter` and that a client with these rights may read, in the order of their topics.
    /// Expired ones are forgotten on the way.
    pub fn matching(&mut self, filter: &str, rights: &Rights, now: Millis) -> Vec<Message> {
        if !topic::has_wildcard(filter) {
            let kept = self.kept.get(filter).filter(|kept| !properties::is_expired(&kept.message, now));
            return kept.filter(|_| rights.may_read(filter)).map(|kept| kept.message.clone()).into_iter().collect();
        }
        let mut expired = Vec::new();
        self.kept.retain(|_, kept| {
            let alive = !properties::is_expired(&kept.message, now);
            if !alive {
                expired.push((kept.owner.clone(), kept.message.size()));
            }
            alive
        });
        for (owner, size) in expired {
            self.uncount(&owner, size);
        }
        let messages = self.kept.values().map(|kept| &kept.message);
        let wanted = |topic: &str| topic::matches(filter, topic) && rights.may_read(topic);
        messages.filter(|message| wanted(&message.topic)).cloned().collect()
    }

    fn uncount(&mut self, owner: &Owner, size: usize) {
        self.bytes -= size;
        if let Some(share) = self.by_owner.get_mut(owner) {
            share.messages -= 1;
            share.bytes -= size;
            if *share == Share::default() {
                self.by_owner.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Qos, tests::message};
    use bytes::Bytes;

    fn store(messages: usize, bytes: usize) -> Retained {
        Retained::new(Room { messages, bytes, messages_of_one: 5, bytes_of_one: 100 })
    }

    fn apply(store: &mut Retained, message: &Message) -> Outcome {
        store.apply(message, &Owner::Anyone)
    }

    fn topics(found: &[Message]) -> Vec<&str> {
        found.iter().map(|message| message.topic.as_str()).collect()
    }

    #[test]
    fn the_newest_message_of_a_topic_is_kept_and_an_empty_one_clears_it() {
        let mut store = store(10, 1000);
        apply(&mut store, &message("a", Qos::AtMostOnce, "1"));
        apply(&mut store, &message("a", Qos::AtMostOnce, "2"));
        assert_eq!(store.matching("#", &Rights::all(), Millis(0))[0].payload, "2");
        apply(&mut store, &message("a", Qos::AtMostOnce, ""));
        assert!(store.matching("#", &Rights::all(), Millis(0)).is_empty());
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn all_matching_messages_are_found() {
        let mut store = store(1000, 1_000_000);
        for number in 0..500 {
            apply(&mut store, &message(&format!("a/{number:03}"), Qos::AtMostOnce, "x"));
        }
        apply(&mut store, &message("$SYS/x", Qos::AtMostOnce, "x"));
        assert_eq!(store.matching("a/+", &Rights::all(), Millis(0)).len(), 500);
        assert_eq!(store.matching("#", &Rights::all(), Millis(0)).len(), 500);
        assert_eq!(topics(&store.matching("a/007", &Rights::all(), Millis(0))), ["a/007"]);
    }

    #[test]
    fn a_full_store_keeps_what_it_has_and_still_replaces() {
        let mut store = store(2, 1000);
        assert_eq!(apply(&mut store, &message("a", Qos::AtMostOnce, "1")), Outcome::Done);
        assert_eq!(apply(&mut store, &message("b", Qos::AtMostOnce, "1")), Outcome::Done);
        assert_eq!(apply(&mut store, &message("c", Qos::AtMostOnce, "1")), Outcome::Full);
        assert_eq!(apply(&mut store, &message("a", Qos::AtMostOnce, "2")), Outcome::Done);
        assert_eq!(topics(&store.matching("#", &Rights::all(), Millis(0))), ["a", "b"]);
    }

    #[test]
    fn an_expired_message_is_forgotten() {
        let mut store = store(10, 1000);
        // Property length 5, Message Expiry Interval (0x02), 1 second.
        let properties = Bytes::from_static(&[5, 2, 0, 0, 0, 1]);
        apply(&mut store, &Message { properties, received: Millis(0), ..message("a", Qos::AtMostOnce, "x") });
        assert_eq!(store.matching("a", &Rights::all(), Millis(999)).len(), 1);
        assert_eq!(store.matching("a", &Rights::all(), Millis(1000)).len(), 0);
        assert_eq!(store.matching("#", &Rights::all(), Millis(1000)).len(), 0);
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn one_owner_cannot_fill_the_store_and_has_room_again_when_its_messages_are_replaced_or_cleared() {
        let mut store = store(10, 1000);
        let [anna, bert] = ["anna", "bert"].map(|name| Owner::User(name.to_owned()));
        let large = |topic: &str| message(topic, Qos::AtMostOnce, &"x".repeat(60));
        assert_eq!(store.apply(&large("a"), &anna), Outcome::Done);
        assert_eq!(store.apply(&large("b"), &anna), Outcome::Full);
        assert_eq!(store.apply(&large("b"), &bert), Outcome::Done);
        assert_eq!(store.apply(&large("a"), &anna), Outcome::Done, "in place of its own");
        store.apply(&message("a", Qos::AtMostOnce, ""), &bert);
        assert_eq!(store.apply(&large("c"), &anna), Outcome::Done);
        store.apply(&message("c", Qos::AtMostOnce, ""), &anna);
        for topic in ["1", "2", "3", "4", "5"] {
            assert_eq!(store.apply(&message(topic, Qos::AtMostOnce, "x"), &anna), Outcome::Done);
        }
        assert_eq!(store.apply(&message("6", Qos::AtMostOnce, "x"), &anna), Outcome::Full);
    }
}

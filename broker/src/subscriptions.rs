//! One client's subscriptions: which message becomes which delivery.
//!
//! The router hands over a message once for every filter of the client that it matches, without saying for which. The
//! client gets it once, at the highest QoS of the subscriptions that match (\[MQTT-3.3.4-2\]) and with all their
//! identifiers (\[MQTT-3.3.4-3\], -4); the further copies are recognised by their sequence number.

use std::collections::HashMap;

use crate::message::Message;
use crate::outbox::Delivery;
use crate::request::Wanted;
use crate::topic;

/// Messages of which further copies are expected, at most. A copy may never come, when its filter is unsubscribed in
/// between, so the list is emptied when it gets longer than this; then a copy may be delivered twice.
const MAX_EXPECTED: usize = 4096;

/// The subscriptions of one connection.
#[derive(Debug)]
pub struct Subscriptions {
    connection: u64,
    by_filter: HashMap<String, Wanted>,
    /// Copies still to come, by sequence number.
    expected: HashMap<u64, usize>,
}

impl Subscriptions {
    /// None yet, for the connection of this number.
    pub fn new(connection: u64) -> Self {
        Self { connection, by_filter: HashMap::new(), expected: HashMap::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_filter.len()
    }

    /// Whether `filter` is among them.
    pub fn contains(&self, filter: &str) -> bool {
        self.by_filter.contains_key(filter)
    }

    /// Adds a subscription, or replaces the one with the same filter (\[MQTT-3.8.4-3\]).
    pub fn insert(&mut self, wanted: Wanted) {
        self.by_filter.insert(wanted.filter.clone(), wanted);
    }

    /// Removes a subscription; whether there was one.
    pub fn remove(&mut self, filter: &str) -> bool {
        self.by_filter.remove(filter).is_some()
    }

    /// Ends them all and says which they were.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.by_filter).into_keys().collect()
    }

    /// The delivery that a message from the router becomes; `None` if the client is not to get it, or got it already.
    pub fn deliver(&mut self, message: Message) -> Option<Delivery> {
        let matching = || self.by_filter.values().filter(|wanted| topic::matches(&wanted.filter, &message.topic));
        let copies = matching().count();
        if copies > 1
            && let Some(left) = self.expected.get_mut(&message.sequence)
        {
            *left -= 1;
            if *left == 0 {
                self.expected.remove(&message.sequence);
            }
            return None;
        }
        let own = message.publisher == self.connection;
        // [MQTT-3.8.3-3]: no local.
        let heard = || matching().filter(|wanted| !(own && wanted.no_local));
        let qos = heard().map(|wanted| wanted.qos).max();
        let retain = message.retain && heard().any(|wanted| wanted.retain_as_published);
        let identifiers = heard().filter_map(|wanted| wanted.identifier).collect();
        if copies > 1 {
            if self.expected.len() >= MAX_EXPECTED {
                self.expected.clear();
            }
            self.expected.insert(message.sequence, copies - 1);
        }
        Some(Delivery { qos: qos?.min(message.qos), retain, identifiers, message })
    }

    /// The delivery of a retained message, in answer to the subscription `wanted`.
    pub fn retained(wanted: &Wanted, message: Message) -> Delivery {
        Delivery {
            qos: wanted.qos.min(message.qos),
            // [MQTT-3.3.1-8]
            retain: true,
            identifiers: wanted.identifier.into_iter().collect(),
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Qos, tests::message};
    use crate::request::RetainHandling;

    fn plain(filter: &str, qos: Qos) -> Wanted {
        Wanted {
            filter: filter.to_owned(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
            identifier: None,
        }
    }

    #[test]
    fn qos_is_the_lower_of_publish_and_subscribe() {
        for (subscribed, published) in [
            (Qos::AtMostOnce, Qos::AtLeastOnce),
            (Qos::AtLeastOnce, Qos::AtMostOnce),
            (Qos::AtMostOnce, Qos::AtMostOnce),
            (Qos::AtLeastOnce, Qos::AtLeastOnce),
        ] {
            let mut subscriptions = Subscriptions::new(1);
            subscriptions.insert(plain("t", subscribed));
            let delivery = subscriptions.deliver(message("t", published, "x")).unwrap();
            assert_eq!(delivery.qos, subscribed.min(published));
        }
    }

    #[test]
    fn overlapping_subscriptions_make_one_delivery_at_the_highest_qos_with_all_identifiers() {
        let mut subscriptions = Subscriptions::new(1);
        subscriptions.insert(Wanted { identifier: Some(1), ..plain("a/#", Qos::AtMostOnce) });
        subscriptions.insert(Wanted { identifier: Some(2), ..plain("a/b", Qos::AtLeastOnce) });
        subscriptions.insert(plain("c", Qos::AtLeastOnce));
        let mut first = subscriptions.deliver(message("a/b", Qos::AtLeastOnce, "x")).unwrap();
        first.identifiers.sort_unstable();
        assert_eq!((first.qos, first.identifiers), (Qos::AtLeastOnce, vec![1, 2]));
        assert_eq!(subscriptions.deliver(message("a/b", Qos::AtLeastOnce, "x")), None, "the second copy");
        assert!(subscriptions.expected.is_empty());
    }

    #[test]
    fn no_local_keeps_a_clients_own_messages_away_and_only_those() {
        let mut subscriptions = Subscriptions::new(3);
        subscriptions.insert(Wanted { no_local: true, ..plain("t", Qos::AtMostOnce) });
        assert_eq!(subscriptions.deliver(message("t", Qos::AtMostOnce, "own")), None);
        let foreign = Message { publisher: 4, ..message("t", Qos::AtMostOnce, "x") };
        assert!(subscriptions.deliver(foreign).is_some());
    }

    #[test]
    fn the_retain_flag_is_cleared_unless_asked_for() {
        let mut subscriptions = Subscriptions::new(1);
        let retained = Message { retain: true, ..message("t", Qos::AtMostOnce, "x") };
        subscriptions.insert(plain("t", Qos::AtMostOnce));
        assert!(!subscriptions.deliver(retained.clone()).unwrap().retain);
        subscriptions.insert(Wanted { retain_as_published: true, ..plain("t", Qos::AtMostOnce) });
        assert!(subscriptions.deliver(retained).unwrap().retain);
    }

    #[test]
    fn what_arrives_after_unsubscribing_is_not_delivered() {
        let mut subscriptions = Subscriptions::new(1);
        subscriptions.insert(plain("t", Qos::AtMostOnce));
        assert!(subscriptions.remove("t"));
        assert!(!subscriptions.remove("t"));
        assert_eq!(subscriptions.deliver(message("t", Qos::AtMostOnce, "x")), None);
    }
}

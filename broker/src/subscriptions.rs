//! One client's subscriptions: which message becomes which delivery.
//!
//! The router hands over a message once for every filter of the client that it matches, without saying for which. The
//! client gets it once, at the highest QoS of the subscriptions that match (\[MQTT-3.3.4-2\]) and with all their
//! identifiers (\[MQTT-3.3.4-3\], -4); the further copies are recognised by their sequence number.

use std::collections::HashMap;

use crate::access::{Reads, Rights};
use crate::message::Message;
use crate::outbox::Delivery;
use crate::request::Wanted;
use crate::topic;

/// Messages of which further copies are expected, at most. A copy may never come, when its filter is unsubscribed in
/// between, so the list is emptied when it gets longer than this; then a copy may be delivered twice.
const MAX_EXPECTED: usize = 4096;

/// One subscription, with what its client may read of it.
#[derive(Debug)]
struct Subscription {
    wanted: Wanted,
    reads: Reads,
}

impl Subscription {
    /// Whether the client gets what it matches: it may read it, and it is not its own where it said that it does not
    /// want that (\[MQTT-3.8.3-3\]).
    fn hears(&self, message: &Message, own: bool, rights: &Rights) -> bool {
        let allowed = match self.reads {
            Reads::All => true,
            Reads::Some => rights.may_read(&message.topic),
            Reads::Nothing => false,
        };
        allowed && !(own && self.wanted.no_local)
    }
}

/// Subscriptions by their filters.
#[derive(Debug, Default)]
struct Filters {
    /// Those without wildcards, of which there may be many: they are looked up.
    exact: HashMap<String, Subscription>,
    wildcard: HashMap<String, Subscription>,
}

impl Filters {
    fn matching(&self, topic: &str) -> Vec<&Subscription> {
        let wildcard = self.wildcard.values().filter(|s| topic::matches(&s.wanted.filter, topic));
        self.exact.get(topic).into_iter().chain(wildcard).collect()
    }

    fn of_kind(&mut self, filter: &str) -> &mut HashMap<String, Subscription> {
        if topic::has_wildcard(filter) { &mut self.wildcard } else { &mut self.exact }
    }
}

/// The subscriptions of one session.
#[derive(Debug)]
pub struct Subscriptions {
    session: u64,
    filters: Filters,
    /// Copies still to come, by sequence number.
    expected: HashMap<u64, usize>,
}

impl Subscriptions {
    /// None yet, for the session of this number.
    pub fn new(session: u64) -> Self {
        Self { session, filters: Filters::default(), expected: HashMap::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.filters.exact.len() + self.filters.wildcard.len()
    }

    /// How many of them have wildcards.
    pub fn wildcards(&self) -> usize {
        self.filters.wildcard.len()
    }

    /// Whether `filter` is among them.
    pub fn contains(&self, filter: &str) -> bool {
        self.filters.exact.contains_key(filter) || self.filters.wildcard.contains_key(filter)
    }

    /// Adds a subscription, or replaces the one with the same filter (\[MQTT-3.8.4-3\]).
    pub fn insert(&mut self, wanted: Wanted, rights: &Rights) {
        let reads = rights.reads(&wanted.filter);
        self.filters.of_kind(&wanted.filter).insert(wanted.filter.clone(), Subscription { wanted, reads });
    }

    /// Looks anew at what the client may read: its rights have changed.
    pub fn reconsider(&mut self, rights: &Rights) {
        for subscription in self.filters.exact.values_mut().chain(self.filters.wildcard.values_mut()) {
            subscription.reads = rights.reads(&subscription.wanted.filter);
        }
    }

    /// Removes a subscription; whether there was one.
    pub fn remove(&mut self, filter: &str) -> bool {
        self.filters.of_kind(filter).remove(filter).is_some()
    }

    /// Ends them all and says which they were.
    pub fn take(&mut self) -> Vec<String> {
        self.filters.exact.drain().chain(self.filters.wildcard.drain()).map(|(filter, _)| filter).collect()
    }

    /// The delivery that a message from the router becomes; `None` if the client is not to get it, or got it already.
    pub fn deliver(&mut self, message: Message, rights: &Rights) -> Option<Delivery> {
        let matching = self.filters.matching(&message.topic);
        let copies = matching.len();
        if let Some(left) = self.expected.get_mut(&message.sequence) {
            *left -= 1;
            if *left == 0 {
                self.expected.remove(&message.sequence);
            }
            return None;
        }
        let own = message.publisher == self.session;
        let heard = || matching.iter().filter(|s| s.hears(&message, own, rights)).map(|s| &s.wanted);
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
            (Qos::AtLeastOnce, Qos::ExactlyOnce),
            (Qos::ExactlyOnce, Qos::ExactlyOnce),
        ] {
            let mut subscriptions = Subscriptions::new(1);
            subscriptions.insert(plain("t", subscribed), &Rights::all());
            let delivery = subscriptions.deliver(message("t", published, "x"), &Rights::all()).unwrap();
            assert_eq!(delivery.qos, subscribed.min(published));
        }
    }

    #[test]
    fn overlapping_subscriptions_make_one_delivery_at_the_highest_qos_with_all_identifiers() {
        let mut subscriptions = Subscriptions::new(1);
        subscriptions.insert(Wanted { identifier: Some(1), ..plain("a/#", Qos::AtMostOnce) }, &Rights::all());
        subscriptions.insert(Wanted { identifier: Some(2), ..plain("a/b", Qos::AtLeastOnce) }, &Rights::all());
        subscriptions.insert(plain("c", Qos::AtLeastOnce), &Rights::all());
        let mut first = subscriptions.deliver(message("a/b", Qos::AtLeastOnce, "x"), &Rights::all()).unwrap();
        first.identifiers.sort_unstable();
        assert_eq!((first.qos, first.identifiers), (Qos::AtLeastOnce, vec![1, 2]));
        assert_eq!(
            subscriptions.deliver(message("a/b", Qos::AtLeastOnce, "x"), &Rights::all()),
            None,
            "the second copy"
        );
        assert!(subscriptions.expected.is_empty());
    }

    #[test]
    fn no_local_keeps_a_clients_own_messages_away_and_only_those() {
        let mut subscriptions = Subscriptions::new(3);
        subscriptions.insert(Wanted { no_local: true, ..plain("t", Qos::AtMostOnce) }, &Rights::all());
        assert_eq!(subscriptions.deliver(message("t", Qos::AtMostOnce, "own"), &Rights::all()), None);
        let foreign = Message { publisher: 4, ..message("t", Qos::AtMostOnce, "x") };
        assert!(subscriptions.deliver(foreign, &Rights::all()).is_some());
    }

    #[test]
    fn the_retain_flag_is_cleared_unless_asked_for() {
        let mut subscriptions = Subscriptions::new(1);
        let retained = Message { retain: true, ..message("t", Qos::AtMostOnce, "x") };
        subscriptions.insert(plain("t", Qos::AtMostOnce), &Rights::all());
        assert!(!subscriptions.deliver(retained.clone(), &Rights::all()).unwrap().retain);
        subscriptions.insert(Wanted { retain_as_published: true, ..plain("t", Qos::AtMostOnce) }, &Rights::all());
        assert!(subscriptions.deliver(retained, &Rights::all()).unwrap().retain);
    }

    #[test]
    fn what_arrives_after_unsubscribing_is_not_delivered() {
        let mut subscriptions = Subscriptions::new(1);
        subscriptions.insert(plain("t", Qos::AtMostOnce), &Rights::all());
        assert!(subscriptions.remove("t"));
        assert!(!subscriptions.remove("t"));
        assert_eq!(subscriptions.deliver(message("t", Qos::AtMostOnce, "x"), &Rights::all()), None);
    }
}

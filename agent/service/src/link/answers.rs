//! What the broker answers: counted for who wants to know, and where it does not allow something, logged.

use std::collections::{BTreeSet, HashMap, VecDeque};

use grid_protocol::topic::Name;
use rumqttc::v5::mqttbytes::v5::{PubAckReason, SubscribeReasonCode};

/// What the broker says of the messages that are to be delivered at least once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// How many it has not answered yet.
    pub waiting: usize,
    /// How many it has answered.
    pub given: u64,
    /// Why one was not delivered, since [`Link::forget_refusal`](super::Link::forget_refusal).
    pub refused: Option<String>,
}

/// The messages that are to be delivered at least once, from when they are handed over until the broker has answered.
pub(super) struct Assured {
    client: Name,
    pub answers: Answers,
    /// The topics of those that are not on their way yet, in their order.
    queued: VecDeque<String>,
    /// The topics of those that are, by packet identifier.
    sent: HashMap<u16, String>,
    /// What the broker does not allow on this connection, as far as that is logged.
    forbidden: BTreeSet<String>,
}

impl Assured {
    pub fn of(client: &Name) -> Self {
        let (answers, queued, sent, forbidden) = Default::default();
        Self { client: client.clone(), answers, queued, sent, forbidden }
    }

    /// A message is handed over.
    pub fn queue(&mut self, topic: &str) {
        self.answers.waiting += 1;
        self.queued.push_back(topic.to_owned());
    }

    /// The message that was handed over last is not taken.
    pub fn take_back(&mut self) {
        self.answers.waiting = self.answers.waiting.saturating_sub(1);
        self.queued.pop_back();
    }

    /// The next message is on its way.
    pub fn is_sent(&mut self, packet: u16) {
        if let Some(topic) = self.queued.pop_front() {
            self.sent.insert(packet, topic);
        }
    }

    /// One message was answered (MQTT 5 section 3.4.2.1).
    pub fn answered(&mut self, packet: u16, reason: PubAckReason) {
        let topic = self.sent.remove(&packet);
        self.answers.waiting = self.answers.waiting.saturating_sub(1);
        self.answers.given += 1;
        let refused = match reason {
            PubAckReason::Success => return,
            PubAckReason::NoMatchingSubscribers => "nobody has subscribed to it".to_owned(),
            PubAckReason::NotAuthorized => {
                if let Some(topic) = topic {
                    self.log_forbidden("say", &topic);
                }
                "the broker does not allow it".to_owned()
            }
            other => format!("the broker refuses it ({other:?})"),
        };
        self.answers.refused = Some(refused);
    }

    /// The subscriptions to `filters` were answered (MQTT 5 section 3.9.3), one by one.
    pub fn subscribed(&mut self, filters: &[String], answers: &[SubscribeReasonCode]) {
        for (filter, answer) in filters.iter().zip(answers) {
            if let SubscribeReasonCode::NotAuthorized = answer {
                self.log_forbidden("hear", filter);
            }
        }
    }

    /// The broker does not allow this: it is logged once.
    fn log_forbidden(&mut self, verb: &str, topic: &str) {
        if self.forbidden.insert(format!("{verb} {topic}")) {
            let client = self.client.as_str();
            tracing::warn!(client, topic, "the broker does not allow us to {verb} this: grid-broker takes a [[grant]]");
        }
    }

    /// A new connection: what was on its way on the last one is answered no more.
    pub fn connected(&mut self) {
        if std::mem::take(&mut self.answers.waiting) > 0 {
            self.answers.refused = Some("the connection broke before the broker had answered".to_owned());
        }
        self.queued.clear();
        self.sent.clear();
        self.forbidden.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc::v5::mqttbytes::QoS;

    fn assured(messages: u16) -> Assured {
        let mut assured = Assured::of(&"cp-1".parse().unwrap());
        for message in 1..=messages {
            assured.queue(&format!("topic/{message}"));
        }
        (1..=messages).for_each(|packet| assured.is_sent(packet));
        assured
    }

    #[test]
    fn each_answer_is_counted_and_a_refusal_is_kept_until_it_is_forgotten() {
        let mut assured = assured(3);
        assured.answered(1, PubAckReason::Success);
        assert_eq!(assured.answers, Answers { waiting: 2, given: 1, refused: None });
        assured.answered(3, PubAckReason::NotAuthorized);
        assured.answered(2, PubAckReason::Success);
        let refused = Some("the broker does not allow it".to_owned());
        assert_eq!(assured.answers, Answers { waiting: 0, given: 3, refused });
        assert!(assured.forbidden.iter().eq(["say topic/3"]) && assured.sent.is_empty());
        // An answer to what an earlier connection sent.
        assured.answered(9, PubAckReason::NoMatchingSubscribers);
        assert_eq!(assured.answers.waiting, 0);
    }

    #[test]
    fn what_the_broker_had_not_answered_when_the_connection_broke_counts_as_refused() {
        let mut none = assured(0);
        none.connected();
        assert_eq!(none.answers, Answers::default());
        let mut one = assured(1);
        one.queue("topic/2");
        one.connected();
        assert!(one.answers.waiting == 0 && one.answers.refused.is_some());
        assert!(one.sent.is_empty() && one.queued.is_empty());
    }

    #[test]
    fn a_message_that_is_not_taken_is_not_waited_for() {
        let mut assured = assured(1);
        assured.queue("too/much");
        assured.take_back();
        assert!(assured.answers.waiting == 1 && assured.queued.is_empty());
    }

    #[test]
    fn each_subscription_that_the_broker_does_not_allow_is_named_once() {
        let mut assured = assured(0);
        let filters = ["grid/#".to_owned(), "homeassistant/status".to_owned()];
        for _ in 0..2 {
            let answers = [SubscribeReasonCode::Success(QoS::AtLeastOnce), SubscribeReasonCode::NotAuthorized];
            assured.subscribed(&filters, &answers);
            assert!(assured.forbidden.iter().eq(["hear homeassistant/status"]));
        }
    }
}

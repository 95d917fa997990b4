//! What waits for one client, and what happens when too much does.
//!
//! Two queues, because a full window of unacknowledged QoS 1 messages must not hold back QoS 0 ones; a number per
//! delivery otherwise keeps the order in which they came. Beyond the limits the oldest QoS 0 message is dropped and
//! counted: the newest measurement is worth more than an old one. A QoS 1 message is a promise, so when only those
//! wait, the outbox says [`Full`], and the client is disconnected with that reason.

use std::collections::VecDeque;

use crate::message::{Message, Qos};

/// A queue that grew beyond this is given back when it is empty.
const KEPT_CAPACITY: usize = 64;

/// A message on its way to one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What to deliver.
    pub message: Message,
    /// The lower of the publisher's and the subscription's QoS (\[MQTT-3.8.4-8\]).
    pub qos: Qos,
    /// The RETAIN flag to send.
    pub retain: bool,
    /// Identifiers of the MQTT 5 subscriptions that it matches.
    pub identifiers: Vec<u32>,
}

/// Too many QoS 1 messages wait for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Two bounded queues with one order.
#[derive(Debug)]
pub struct Outbox {
    plain: VecDeque<(u64, Delivery)>,
    acknowledged: VecDeque<(u64, Delivery)>,
    next: u64,
    bytes: usize,
    max_count: usize,
    max_bytes: usize,
    dropped: u64,
}

impl Outbox {
    /// An empty outbox with these limits.
    pub fn new(max_count: usize, max_bytes: usize) -> Self {
        Self {
            plain: VecDeque::new(),
            acknowledged: VecDeque::new(),
            next: 0,
            bytes: 0,
            max_count,
            max_bytes,
            dropped: 0,
        }
    }

    /// QoS 0 messages dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds a delivery, by the rule in this module's description.
    pub fn push(&mut self, delivery: Delivery) -> Result<(), Full> {
        self.bytes += delivery.message.size();
        let queue = match delivery.qos {
            Qos::AtMostOnce => &mut self.plain,
            Qos::AtLeastOnce => &mut self.acknowledged,
        };
        queue.push_back((self.next, delivery));
        self.next += 1;
        while self.plain.len() + self.acknowledged.len() > self.max_count || self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.plain.pop_front() else {
                return Err(Full);
            };
            self.bytes -= oldest.message.size();
            self.dropped += 1;
        }
        Ok(())
    }

    /// The next delivery; QoS 1 only if the client's window has room.
    pub fn pop(&mut self, window_open: bool) -> Option<Delivery> {
        let number = |queue: &VecDeque<(u64, Delivery)>| queue.front().map(|(number, _)| *number);
        let plain = number(&self.plain);
        let acknowledged = number(&self.acknowledged).filter(|_| window_open);
        let queue = match (plain, acknowledged) {
            (Some(plain), Some(acknowledged)) if plain < acknowledged => &mut self.plain,
            (_, Some(_)) => &mut self.acknowledged,
            (Some(_), None) => &mut self.plain,
            (None, None) => return None,
        };
        let (_, delivery) = queue.pop_front()?;
        if queue.is_empty() && queue.capacity() > KEPT_CAPACITY {
            *queue = VecDeque::new();
        }
        self.bytes -= delivery.message.size();
        Some(delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::message;

    fn delivery(qos: Qos, payload: &str) -> Delivery {
        Delivery { message: message("t", qos, payload), qos, retain: false, identifiers: vec![] }
    }

    fn drain(outbox: &mut Outbox, window_open: bool) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop(window_open))
            .map(|delivery| String::from_utf8_lossy(&delivery.message.payload).into_owned())
            .collect()
    }

    #[test]
    fn deliveries_leave_in_the_order_in_which_they_came() {
        let mut outbox = Outbox::new(10, 1000);
        for (qos, payload) in [(Qos::AtMostOnce, "1"), (Qos::AtLeastOnce, "2"), (Qos::AtMostOnce, "3")] {
            outbox.push(delivery(qos, payload)).unwrap();
        }
        assert_eq!(drain(&mut outbox, true), ["1", "2", "3"]);
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn a_full_window_holds_back_only_qos_1() {
        let mut outbox = Outbox::new(10, 1000);
        for (qos, payload) in [(Qos::AtLeastOnce, "1"), (Qos::AtMostOnce, "2"), (Qos::AtLeastOnce, "3")] {
            outbox.push(delivery(qos, payload)).unwrap();
        }
        assert_eq!(drain(&mut outbox, false), ["2"]);
        assert_eq!(drain(&mut outbox, true), ["1", "3"]);
    }

    #[test]
    fn the_oldest_qos_0_messages_go_first_and_are_counted() {
        let mut outbox = Outbox::new(3, 1000);
        outbox.push(delivery(Qos::AtLeastOnce, "kept")).unwrap();
        for payload in ["1", "2", "3", "4"] {
            outbox.push(delivery(Qos::AtMostOnce, payload)).unwrap();
        }
        assert_eq!(outbox.dropped(), 2);
        assert_eq!(drain(&mut outbox, true), ["kept", "3", "4"]);
    }

    #[test]
    fn too_many_qos_1_messages_are_an_error_and_not_a_loss() {
        let mut outbox = Outbox::new(2, 1000);
        outbox.push(delivery(Qos::AtLeastOnce, "1")).unwrap();
        outbox.push(delivery(Qos::AtLeastOnce, "2")).unwrap();
        assert_eq!(outbox.push(delivery(Qos::AtLeastOnce, "3")), Err(Full));
    }

    #[test]
    fn bytes_are_limited_as_well_as_messages() {
        let mut outbox = Outbox::new(100, 30);
        for _ in 0..5 {
            outbox.push(delivery(Qos::AtMostOnce, "0123456789")).unwrap();
        }
        assert_eq!(outbox.dropped(), 3);
    }
}

//! What waits for one client, and what happens when too much does.
//!
//! Two queues, because a full window of unacknowledged messages must not hold back QoS 0 ones; a number per delivery
//! otherwise keeps the order in which they came. Beyond the limits the oldest QoS 0 message is dropped and counted: the
//! newest measurement is worth more than an old one. QoS 1 and 2 are promises, so when only those wait, the outbox says
//! [`Full`], and the client is disconnected with that reason.
//!
//! All outboxes of a broker together have a limit as well. When it is reached, only who has much waiting gives way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::message::{Message, Qos};

/// A queue that grew beyond this is given back when it is empty.
const KEPT_CAPACITY: usize = 64;
/// Who has no more than this waiting is not touched by the limit of all together.
const UNTOUCHED_BYTES: usize = 64 * 1024;

/// What a message costs beside its content.
const PER_MESSAGE: usize = 256;

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

/// Too many QoS 1 and 2 messages wait for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Messages in one outbox.
    pub messages: usize,
    /// Bytes in one outbox, with 256 for each message.
    pub bytes: usize,
    /// Bytes in all outboxes of the broker.
    pub bytes_together: usize,
}

/// Two bounded queues with one order.
#[derive(Debug)]
pub struct Outbox {
    plain: VecDeque<(u64, Delivery)>,
    assured: VecDeque<(u64, Delivery)>,
    next: u64,
    bytes: usize,
    /// Bytes in all outboxes of the broker.
    together: Arc<AtomicUsize>,
    room: Room,
    dropped: u64,
}

impl Outbox {
    /// An empty outbox, one of those that `together` counts.
    pub fn new(room: Room, together: Arc<AtomicUsize>) -> Self {
        Self { plain: VecDeque::new(), assured: VecDeque::new(), next: 0, bytes: 0, together, room, dropped: 0 }
    }

    /// QoS 0 messages dropped since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// QoS 1 and 2 messages that wait.
    pub fn assured(&self) -> usize {
        self.assured.len()
    }

    /// Adds a delivery, by the rule in this module's description.
    pub fn push(&mut self, delivery: Delivery) -> Result<(), Full> {
        self.count(&delivery);
        let queue = if delivery.qos.is_assured() { &mut self.assured } else { &mut self.plain };
        queue.push_back((self.next, delivery));
        self.next += 1;
        while self.is_too_full() {
            let Some((_, oldest)) = self.plain.pop_front() else {
                return Err(Full);
            };
            self.uncount(&oldest);
            self.dropped += 1;
        }
        Ok(())
    }

    /// The next delivery; above QoS 0 only if the client's window has room.
    pub fn pop(&mut self, window_open: bool) -> Option<Delivery> {
        let number = |queue: &VecDeque<(u64, Delivery)>| queue.front().map(|(number, _)| *number);
        let plain = number(&self.plain);
        let assured = number(&self.assured).filter(|_| window_open);
        let queue = match (plain, assured) {
            (Some(plain), Some(assured)) if plain < assured => &mut self.plain,
            (_, Some(_)) => &mut self.assured,
            (Some(_), None) => &mut self.plain,
            (None, None) => return None,
        };
        let (_, delivery) = queue.pop_front()?;
        if queue.is_empty() && queue.capacity() > KEPT_CAPACITY {
            *queue = VecDeque::new();
        }
        self.uncount(&delivery);
        Some(delivery)
    }

    /// Drops the QoS 0 messages that wait: their client is gone. Says how many.
    pub fn drop_plain(&mut self) -> u64 {
        let plain = std::mem::take(&mut self.plain);
        for (_, delivery) in &plain {
            self.uncount(delivery);
        }
        u64::try_from(plain.len()).unwrap_or(u64::MAX)
    }

    fn is_too_full(&self) -> bool {
        self.plain.len() + self.assured.len() > self.room.messages
            || self.bytes > self.room.bytes
            || (self.bytes > UNTOUCHED_BYTES && self.together.load(Ordering::Relaxed) > self.room.bytes_together)
    }

    fn count(&mut self, delivery: &Delivery) {
        let size = delivery.message.size() + PER_MESSAGE;
        self.bytes += size;
        self.together.fetch_add(size, Ordering::Relaxed);
    }

    fn uncount(&mut self, delivery: &Delivery) {
        let size = delivery.message.size() + PER_MESSAGE;
        self.bytes -= size;
        self.together.fetch_sub(size, Ordering::Relaxed);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.together.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::message;

    fn outbox(messages: usize, bytes: usize) -> Outbox {
        Outbox::new(Room { messages, bytes, bytes_together: usize::MAX }, Arc::default())
    }

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
        let mut outbox = outbox(10, 10_000);
        for (qos, payload) in [(Qos::AtMostOnce, "1"), (Qos::AtLeastOnce, "2"), (Qos::AtMostOnce, "3")] {
            outbox.push(delivery(qos, payload)).unwrap();
        }
        assert_eq!(drain(&mut outbox, true), ["1", "2", "3"]);
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn a_full_window_holds_back_only_what_is_acknowledged() {
        let mut outbox = outbox(10, 10_000);
        for (qos, payload) in [(Qos::AtLeastOnce, "1"), (Qos::AtMostOnce, "2"), (Qos::AtLeastOnce, "3")] {
            outbox.push(delivery(qos, payload)).unwrap();
        }
        assert_eq!(drain(&mut outbox, false), ["2"]);
        assert_eq!(drain(&mut outbox, true), ["1", "3"]);
    }

    #[test]
    fn the_oldest_qos_0_messages_go_first_and_are_counted() {
        let mut outbox = outbox(3, 10_000);
        outbox.push(delivery(Qos::AtLeastOnce, "kept")).unwrap();
        for payload in ["1", "2", "3", "4"] {
            outbox.push(delivery(Qos::AtMostOnce, payload)).unwrap();
        }
        assert_eq!(outbox.take_dropped(), 2);
        assert_eq!(drain(&mut outbox, true), ["kept", "3", "4"]);
    }

    #[test]
    fn too_many_qos_1_messages_are_an_error_and_not_a_loss() {
        let mut outbox = outbox(2, 10_000);
        outbox.push(delivery(Qos::AtLeastOnce, "1")).unwrap();
        outbox.push(delivery(Qos::AtLeastOnce, "2")).unwrap();
        assert_eq!(outbox.push(delivery(Qos::AtLeastOnce, "3")), Err(Full));
    }

    #[test]
    fn bytes_are_limited_as_well_as_messages() {
        let mut outbox = outbox(100, 30 + 2 * PER_MESSAGE);
        for _ in 0..5 {
            outbox.push(delivery(Qos::AtMostOnce, "0123456789")).unwrap();
        }
        assert_eq!(outbox.take_dropped(), 3);
    }

    #[test]
    fn when_all_together_have_too_much_only_who_has_much_gives_way() {
        let together = Arc::new(AtomicUsize::new(0));
        let room = Room { messages: 1000, bytes: usize::MAX, bytes_together: 100_000 };
        let [mut large, mut small] = [(); 2].map(|()| Outbox::new(room, Arc::clone(&together)));
        let load = "x".repeat(8000);
        for _ in 0..20 {
            large.push(delivery(Qos::AtMostOnce, &load)).unwrap();
            small.push(delivery(Qos::AtMostOnce, "x")).unwrap();
        }
        assert!(large.take_dropped() > 0);
        assert_eq!(small.take_dropped(), 0);
        assert!(together.load(Ordering::Relaxed) <= 100_000);
        drop(large);
        drop(small);
        assert_eq!(together.load(Ordering::Relaxed), 0);
    }
}

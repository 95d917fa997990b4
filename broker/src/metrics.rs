//! What the broker counts. One set of figures serves the `$SYS` topics and the Prometheus page.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// All figures of one broker.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections accepted, of any transport.
    pub connections: Counter,
    /// Clients that are connected and logged in.
    pub clients: Gauge,
    /// The most there were at a time.
    pub clients_maximum: Gauge,
    /// Sessions kept for clients that are away.
    pub sessions_away: Gauge,
    /// Sessions that ended because their time was over.
    pub sessions_expired: Counter,
    /// Subscriptions of all sessions.
    pub subscriptions: Gauge,
    /// Retained messages.
    pub retained: Gauge,
    /// Their bytes.
    pub retained_bytes: Gauge,
    /// Application messages received from clients.
    pub messages_received: Counter,
    /// Application messages sent to clients, repetitions included.
    pub messages_sent: Counter,
    /// Bytes received from clients, in MQTT packets.
    pub bytes_received: Counter,
    /// Bytes sent to clients, in MQTT packets.
    pub bytes_sent: Counter,
    /// Messages that somebody did not get, by reason.
    pub dropped: Family<Drop, Counter>,
    /// What was refused, by what was asked.
    pub refused: Family<Refused, Counter>,
    /// Times a client was not read from for a while since it sent faster than its limit.
    pub throttled: Counter,
}

/// A label of [`Metrics::dropped`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Drop {
    /// Why.
    pub reason: DropReason,
}

/// Why a message did not reach somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum DropReason {
    /// QoS 0, and the client's queue was full: the oldest went.
    QueueFull,
    /// QoS 0, and the client was away.
    Away,
    /// QoS 1 or 2, and the client's session ended with it in the queue or unacknowledged.
    SessionEnded,
    /// Its expiry interval had passed.
    Expired,
    /// Larger than the client takes.
    TooLarge,
    /// It was delivered, but the retained store had no room to keep it.
    RetainedFull,
    /// Its publisher may not publish there.
    NotAuthorized,
    /// A topic beyond the number that the broker can route.
    TooManyTopics,
}

/// A label of [`Metrics::refused`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Refused {
    /// What was asked for.
    pub request: RefusedRequest,
}

/// What can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum RefusedRequest {
    /// A connection, before its CONNECT.
    Connection,
    /// A login.
    Login,
    /// A publish.
    Publish,
    /// A subscription.
    Subscription,
}

impl Metrics {
    /// Counts messages that somebody did not get.
    pub fn drop(&self, reason: DropReason, count: u64) {
        self.dropped.get_or_create(&Drop { reason }).inc_by(count);
    }

    /// Counts a refusal.
    pub fn refuse(&self, request: RefusedRequest) {
        self.refused.get_or_create(&Refused { request }).inc();
    }
}

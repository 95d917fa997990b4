//! What the broker counts. One set of figures serves the `$SYS` topics (module `sys`) and the Prometheus page (module
//! `http`).
//!
//! Counting happens for every packet, so it is one addition to an atomic number each, also where a figure has labels:
//! their counters are made once, at the start.

use std::fmt::Write;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// All figures of one broker.
///
/// As in mosquitto, `messages_…` count MQTT packets of every type, and `publish_…` those that carry an application
/// message.
#[derive(Debug)]
pub struct Metrics {
    /// Connections accepted, of any transport.
    pub connections: Counter,
    /// CONNECT packets received.
    pub connects: Counter,
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
    /// Retained messages. Looked up when the figures are read.
    pub retained: Gauge,
    /// Their bytes: topic, properties and payload. Looked up when the figures are read.
    pub retained_bytes: Gauge,
    /// Seconds since the start. Looked up when the figures are read.
    pub uptime: Gauge,
    /// Packets received from clients.
    pub messages_received: Counter,
    /// Packets sent to clients.
    pub messages_sent: Counter,
    /// PUBLISH packets received from clients.
    pub publish_received: Counter,
    /// PUBLISH packets sent to clients, repetitions included.
    pub publish_sent: Counter,
    /// Payload bytes of the PUBLISH packets received.
    pub publish_bytes_received: Counter,
    /// Payload bytes of the PUBLISH packets sent.
    pub publish_bytes_sent: Counter,
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
    /// The counters of `dropped`, in the order of [`DropReason::ALL`].
    drops: [Counter; DropReason::ALL.len()],
    /// The counters of `refused`, in the order of [`RefusedRequest::ALL`].
    refusals: [Counter; RefusedRequest::ALL.len()],
}

/// A label of [`Metrics::dropped`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Drop {
    /// Why.
    pub reason: DropReason,
}

/// Why a message did not reach somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl DropReason {
    /// All of them, each at the place that its discriminant says.
    pub const ALL: [Self; 8] = [
        Self::QueueFull,
        Self::Away,
        Self::SessionEnded,
        Self::Expired,
        Self::TooLarge,
        Self::RetainedFull,
        Self::NotAuthorized,
        Self::TooManyTopics,
    ];

    /// Its name in topics and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Away => "away",
            Self::SessionEnded => "session_ended",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
            Self::RetainedFull => "retained_full",
            Self::NotAuthorized => "not_authorized",
            Self::TooManyTopics => "too_many_topics",
        }
    }
}

impl EncodeLabelValue for DropReason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(self.name())
    }
}

/// A label of [`Metrics::refused`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Refused {
    /// What was asked for.
    pub request: RefusedRequest,
}

/// What can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl RefusedRequest {
    /// All of them, each at the place that its discriminant says.
    pub const ALL: [Self; 4] = [Self::Connection, Self::Login, Self::Publish, Self::Subscription];

    /// Its name in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Login => "login",
            Self::Publish => "publish",
            Self::Subscription => "subscription",
        }
    }
}

impl EncodeLabelValue for RefusedRequest {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(self.name())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let dropped = Family::<Drop, Counter>::default();
        let refused = Family::<Refused, Counter>::default();
        Self {
            connections: Counter::default(),
            connects: Counter::default(),
            clients: Gauge::default(),
            clients_maximum: Gauge::default(),
            sessions_away: Gauge::default(),
            sessions_expired: Counter::default(),
            subscriptions: Gauge::default(),
            retained: Gauge::default(),
            retained_bytes: Gauge::default(),
            uptime: Gauge::default(),
            messages_received: Counter::default(),
            messages_sent: Counter::default(),
            publish_received: Counter::default(),
            publish_sent: Counter::default(),
            publish_bytes_received: Counter::default(),
            publish_bytes_sent: Counter::default(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            throttled: Counter::default(),
            drops: DropReason::ALL.map(|reason| dropped.get_or_create(&Drop { reason }).clone()),
            refusals: RefusedRequest::ALL.map(|request| refused.get_or_create(&Refused { request }).clone()),
            dropped,
            refused,
        }
    }
}

impl Metrics {
    /// Counts messages that somebody did not get.
    pub fn drop(&self, reason: DropReason, count: u64) {
        self.drops[reason as usize].inc_by(count);
    }

    /// How many messages were dropped for `reason`.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
    }

    /// How many messages were dropped, for all reasons together.
    pub fn dropped_in_all(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }

    /// Counts a refusal.
    pub fn refuse(&self, request: RefusedRequest) {
        self.refusals[request as usize].inc();
    }

    /// The figures under the names that Prometheus shows.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("grid_broker");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", build);
        registry.register_with_unit("uptime", "Time since the start", Unit::Seconds, self.uptime.clone());
        for (name, description, gauge) in [
            ("clients", "Clients that are connected and logged in", &self.clients),
            ("clients_maximum", "The most clients that were connected at a time", &self.clients_maximum),
            ("sessions_away", "Sessions kept for clients that are away", &self.sessions_away),
            ("subscriptions", "Subscriptions of all sessions", &self.subscriptions),
            ("retained_messages", "Retained messages", &self.retained),
            ("retained_bytes", "Bytes of retained messages: topic, properties and payload", &self.retained_bytes),
        ] {
            registry.register(name, description, gauge.clone());
        }
        for (name, description, counter) in [
            ("connections", "Connections accepted", &self.connections),
            ("connects", "CONNECT packets received", &self.connects),
            ("sessions_expired", "Sessions that ended because their time was over", &self.sessions_expired),
            ("packets_received", "MQTT packets received", &self.messages_received),
            ("packets_sent", "MQTT packets sent", &self.messages_sent),
            ("publish_received", "PUBLISH packets received", &self.publish_received),
            ("publish_sent", "PUBLISH packets sent, repetitions included", &self.publish_sent),
            ("publish_received_bytes", "Payload bytes of PUBLISH packets received", &self.publish_bytes_received),
            ("publish_sent_bytes", "Payload bytes of PUBLISH packets sent", &self.publish_bytes_sent),
            ("received_bytes", "Bytes received in MQTT packets", &self.bytes_received),
            ("sent_bytes", "Bytes sent in MQTT packets", &self.bytes_sent),
            ("throttled", "Times a client was not read from since it sent faster than its limit", &self.throttled),
        ] {
            registry.register(name, description, counter.clone());
        }
        registry.register("dropped", "Messages that somebody did not get", self.dropped.clone());
        registry.register("refused", "Requests that were refused", self.refused.clone());
        registry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_under_its_own_name() {
        let metrics = Metrics::default();
        for (number, reason) in (1..).zip(DropReason::ALL) {
            metrics.drop(reason, number);
        }
        for request in RefusedRequest::ALL {
            metrics.refuse(request);
        }
        metrics.refuse(RefusedRequest::Login);
        assert_eq!(metrics.dropped_for(DropReason::SessionEnded), 3);
        assert_eq!(metrics.dropped_in_all(), 36);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &metrics.registry()).unwrap();
        for (number, reason) in (1..).zip(DropReason::ALL) {
            let line = format!("grid_broker_dropped_total{{reason=\"{}\"}} {number}\n", reason.name());
            assert!(page.contains(&line), "{line} in {page}");
        }
        assert!(page.contains("grid_broker_refused_total{request=\"login\"} 2\n"), "{page}");
        assert!(page.contains("grid_broker_refused_total{request=\"connection\"} 1\n"), "{page}");
    }
}

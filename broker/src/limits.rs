//! Everything about the broker that can be set, with what it means.

use std::time::Duration;

use grid_service::settings::Problems;
use serde::{Deserialize, Serialize};

use crate::budget::Rates;
use crate::{outbox, retained};

/// The largest remaining length (MQTT 5, section 1.5.5).
const LARGEST_PACKET: usize = 268_435_455;

/// What may be none or never, as its documentation says. Everything else must be at least 1.
const MAY_BE_ZERO: [&str; 4] = ["kept_for_machines", "max_sessions_away", "max_session_expiry_ms", "sys_interval_ms"];

/// The broker's limits and times. The defaults suit a Raspberry Pi that serves one street: some 200 clients.
///
/// Sizes are bytes unless they say otherwise. Every limit has one rule for what happens beyond it, given here. In the
/// section `[limits]` of the settings a field has its own name; a time is given in milliseconds, as `…_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Clients that may be connected at once. One more gets a CONNACK that says so: 3.1.1 *server unavailable*
    /// (0x03), 5 *server busy* (0x89).
    pub max_clients: usize,

    /// Places among [`max_clients`](Self::max_clients) that only the site's machines get (transformers, devices,
    /// anchor), so that no crowd of users keeps them out. Whoever connects to an open broker counts as one.
    pub kept_for_machines: usize,

    /// Connections and sessions that one user or certificate may have at once. One more is refused like one beyond
    /// `max_clients`. (Whoever connects to an open broker is not counted so.)
    pub max_clients_of_one: usize,

    /// Sessions that are kept for clients that are away. One more ends with its connection.
    pub max_sessions_away: usize,

    /// How long a session is kept for a client that is away, at most. MQTT 5 clients that ask for more are told; the
    /// sessions of 3.1.1 clients without clean session have just this.
    #[serde(rename = "max_session_expiry_ms", with = "milliseconds")]
    pub max_session_expiry: Duration,

    /// Packets a second from one client, or from all connections of one identity together (acknowledgements are
    /// not counted). Who sends faster is read no faster, and loses nothing.
    pub messages_per_second: u64,

    /// Packets that may come at once, before [`messages_per_second`](Self::messages_per_second) holds.
    pub messages_burst: u64,

    /// The same for bytes.
    pub bytes_per_second: u64,

    /// The same for bytes.
    pub bytes_burst: u64,

    /// Accepted TCP connections that have not sent their CONNECT yet. One more is closed at once, so that idle
    /// connections cannot use up the file descriptors.
    pub max_waiting: usize,

    /// Those of them that may come from one address (IPv6: from one /64 network), so that one address alone cannot keep
    /// others out. One more is closed at once.
    pub max_waiting_per_address: usize,

    /// Time from TCP accept to a complete CONNECT, the handshakes of TLS and WebSocket included; then the connection
    /// is closed.
    #[serde(rename = "connect_timeout_ms", with = "milliseconds")]
    pub connect_timeout: Duration,

    /// Largest application message. A larger one ends its connection: 5 with DISCONNECT 0x95 (packet too large),
    /// 3.1.1 without a word, since it has none.
    pub max_payload: usize,

    /// Room in a packet besides the payload: topic, properties, and the lists of SUBSCRIBE. `max_payload` and this
    /// together are the Maximum Packet Size announced to MQTT 5 clients and enforced for all.
    pub max_packet_overhead: usize,

    /// Longest topic, topic filter and client id, in bytes of UTF-8: the broker never forgets one, and logs them. A longer
    /// topic or filter is refused like an invalid one.
    pub max_topic: usize,

    /// QoS 1 and 2 messages sent to a client and not acknowledged yet. MQTT 5 clients may ask for fewer (Receive Maximum).
    /// Further ones wait in the client's queue.
    pub max_inflight: u16,

    /// Messages that may wait for one client. Beyond this, or [`max_queued_bytes`](Self::max_queued_bytes), the
    /// oldest waiting QoS 0 message is dropped and counted; if only QoS 1 and 2 messages wait, the client is
    /// disconnected (5: 0x97 quota exceeded) and its session ends, since such a message must not vanish silently. For a
    /// client that is away its session ends, so that it is told *session present* 0 when it comes back. (While it is
    /// away, QoS 0 messages are not kept for it.)
    pub max_queued: usize,

    /// Bytes (topic, payload, properties, and 256 for each message) that may wait for one client.
    pub max_queued_bytes: usize,

    /// Bytes that may wait for all clients together. Beyond this the same rule holds for every client that has more
    /// than 64 KiB waiting.
    pub max_queued_bytes_together: usize,

    /// A client that takes nothing off its socket for this long while something waits for it is disconnected.
    #[serde(rename = "stall_timeout_ms", with = "milliseconds")]
    pub stall_timeout: Duration,

    /// Subscriptions of one client. A further one is refused in its SUBACK (5: 0x97 quota exceeded, 3.1.1: 0x80).
    pub max_subscriptions: usize,

    /// Those of them that may have wildcards. Each costs a comparison for each message that another one matches.
    pub max_wildcards: usize,

    /// Retained messages kept, over all topics. A message for a further topic is delivered but not kept, which is
    /// logged, and told to an MQTT 5 publisher at QoS 1 and 2 (0x97 quota exceeded).
    pub max_retained: usize,

    /// Bytes of retained messages kept; the same rule as for [`max_retained`](Self::max_retained).
    pub max_retained_bytes: usize,

    /// Retained messages of one user or certificate; the same rule.
    pub max_retained_of_one: usize,

    /// Bytes of retained messages that one user or certificate published; the same rule.
    pub max_retained_bytes_of_one: usize,

    /// Distinct filters subscribed to since the broker started; the router never forgets one. A new one beyond
    /// this is refused in its SUBACK like one beyond [`max_subscriptions`](Self::max_subscriptions).
    pub max_filters: usize,

    /// Those of them that one user or certificate may be the first to subscribe to, so that it cannot use them up for
    /// all others. (On an open broker: one connection.)
    pub max_filters_of_one: usize,

    /// Those of them that may have wildcards; each keeps up to five windows of `window` bytes for ever.
    pub max_wildcard_filters: usize,

    /// Those of them that one user or certificate may be the first to subscribe to. (On an open broker: one connection.)
    pub max_wildcard_filters_of_one: usize,

    /// Distinct topics published to since the broker started; the router never forgets one that somebody
    /// subscribed to. A message to a new one beyond this is refused (5 at QoS 1 and 2: 0x97; otherwise the connection
    /// ends).
    pub max_topics: usize,

    /// Those of them that one user or certificate may be the first to publish to; the same rule. (On an open broker:
    /// one connection.)
    pub max_topics_of_one: usize,

    /// Bytes that may be between publishers and the tasks that take messages off the router, over all topics.
    /// When a window is full, publishers are not read until everybody has caught up; see the module `gate`.
    pub window: usize,

    /// The same for each topic that somebody subscribed to by its exact name. The router keeps the last five windows
    /// of every filter ever subscribed to, so this decides what hundreds of device topics cost, and
    /// [`window`](Self::window) what each wildcard filter costs; in memory it is about twice as much.
    pub exact_window: usize,

    /// How often the broker sends itself a message through the router.
    #[serde(rename = "heartbeat_ms", with = "milliseconds")]
    pub heartbeat: Duration,

    /// How long that message may be away until the broker gives up with
    /// [`BrokerError::RouterStuck`](crate::BrokerError::RouterStuck).
    #[serde(rename = "heartbeat_timeout_ms", with = "milliseconds")]
    pub heartbeat_timeout: Duration,

    /// How often the figures below `$SYS/broker/` are published; never, if this is zero.
    #[serde(rename = "sys_interval_ms", with = "milliseconds")]
    pub sys_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_clients: 400,
            kept_for_machines: 200,
            max_clients_of_one: 20,
            max_sessions_away: 200,
            max_session_expiry: Duration::from_secs(7 * 24 * 3600),
            messages_per_second: 10_000,
            messages_burst: 60_000,
            bytes_per_second: 5_000_000,
            bytes_burst: 30_000_000,
            max_waiting: 200,
            max_waiting_per_address: 100,
            connect_timeout: Duration::from_secs(5),
            max_payload: 8 * 1024,
            max_packet_overhead: 8 * 1024,
            max_topic: 256,
            max_inflight: 500,
            max_queued: 65_536,
            max_queued_bytes: 32 * 1024 * 1024,
            max_queued_bytes_together: 128 * 1024 * 1024,
            stall_timeout: Duration::from_secs(30),
            max_subscriptions: 1000,
            max_wildcards: 30,
            max_retained: 10_000,
            max_retained_bytes: 16 * 1024 * 1024,
            max_retained_of_one: 2000,
            max_retained_bytes_of_one: 4 * 1024 * 1024,
            max_filters: 10_000,
            max_filters_of_one: 1000,
            max_wildcard_filters: 200,
            max_wildcard_filters_of_one: 60,
            max_topics: 50_000,
            max_topics_of_one: 10_000,
            window: 512 * 1024,
            exact_window: 1792,
            heartbeat: Duration::from_secs(1),
            heartbeat_timeout: Duration::from_secs(3),
            sys_interval: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// How fast one client may send.
    pub(crate) fn rates(&self) -> Rates {
        Rates {
            messages: self.messages_per_second,
            messages_burst: self.messages_burst,
            bytes: self.bytes_per_second,
            bytes_burst: self.bytes_burst,
        }
    }

    /// How long a session is kept for a client that asks for so many seconds.
    pub(crate) fn session_expiry(&self, asked: u32) -> Duration {
        Duration::from_secs(asked.into()).min(self.max_session_expiry)
    }

    /// How much may wait for clients.
    pub(crate) fn queue_room(&self) -> outbox::Room {
        outbox::Room {
            messages: self.max_queued,
            bytes: self.max_queued_bytes,
            bytes_together: self.max_queued_bytes_together,
        }
    }

    /// How much is kept of retained messages.
    pub(crate) fn retained_room(&self) -> retained::Room {
        retained::Room {
            messages: self.max_retained,
            bytes: self.max_retained_bytes,
            messages_of_one: self.max_retained_of_one,
            bytes_of_one: self.max_retained_bytes_of_one,
        }
    }

    /// The largest packet accepted, and what MQTT 5 clients are told.
    pub(crate) fn max_packet(&self) -> u32 {
        u32::try_from(self.max_payload.saturating_add(self.max_packet_overhead)).unwrap_or(u32::MAX)
    }

    /// Notes every value that does not make sense.
    pub(crate) fn note_problems(&self, wrong: &mut Problems) {
        match toml::Table::try_from(self) {
            Ok(all) => {
                for (key, value) in &all {
                    let good = value.as_integer() != Some(0) || MAY_BE_ZERO.contains(&key.as_str());
                    wrong.unless(good, || format!("limits.{key} = 0: expected at least 1"));
                }
            }
            // A size beyond what TOML can say.
            Err(error) => wrong.unless(false, || format!("limits: {error}")),
        }
        wrong.unless(self.max_payload.saturating_add(self.max_packet_overhead) <= LARGEST_PACKET, || {
            let (payload, overhead) = (self.max_payload, self.max_packet_overhead);
            format!(
                "limits.max_payload = {payload} and limits.max_packet_overhead = {overhead}: MQTT packets have at most \
                 {LARGEST_PACKET} bytes"
            )
        });
        wrong.unless(self.heartbeat < self.heartbeat_timeout, || {
            let (every, limit) = (self.heartbeat.as_millis(), self.heartbeat_timeout.as_millis());
            format!("limits.heartbeat_timeout_ms = {limit}: expected more than heartbeat_ms = {every}")
        });
        wrong.unless(self.kept_for_machines <= self.max_clients, || {
            let (kept, all) = (self.kept_for_machines, self.max_clients);
            format!("limits.kept_for_machines = {kept}: expected at most max_clients = {all}")
        });
    }
}

/// Times as whole milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

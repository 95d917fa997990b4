//! Everything about the broker that can be set, with what it means.

use std::time::Duration;

use grid_service::settings::Problems;
use serde::{Deserialize, Serialize};

/// The largest remaining length (MQTT 5, section 1.5.5).
const LARGEST_PACKET: usize = 268_435_455;

/// The broker's limits and times. The defaults suit a Raspberry Pi that serves one street: some 200 clients.
///
/// Sizes are bytes unless they say otherwise. Every limit has one rule for what happens beyond it, given here. In the
/// section `[limits]` of the settings a field has its own name; a time is given in milliseconds, as `…_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Clients that may be logged in at once. One more gets a CONNACK that says so: 3.1.1 *server unavailable*
    /// (0x03), 5 *server busy* (0x89).
    pub max_clients: usize,

    /// Accepted TCP connections that have not sent their CONNECT yet. One more is closed at once, so that idle
    /// connections cannot use up the file descriptors.
    pub max_waiting: usize,

    /// Time from TCP accept to a complete CONNECT; then the connection is closed.
    #[serde(rename = "connect_timeout_ms", with = "milliseconds")]
    pub connect_timeout: Duration,

    /// Largest application message. A larger one ends its connection: 5 with DISCONNECT 0x95 (packet too large),
    /// 3.1.1 without a word, since it has none.
    pub max_payload: usize,

    /// Room in a packet besides the payload: topic, properties, and the lists of SUBSCRIBE. `max_payload` and this
    /// together are the Maximum Packet Size announced to MQTT 5 clients and enforced for all.
    pub max_packet_overhead: usize,

    /// QoS 1 messages sent to a client and not acknowledged yet. MQTT 5 clients may ask for fewer (Receive Maximum).
    /// Further ones wait in the client's queue.
    pub max_inflight: u16,

    /// Messages that may wait for one client. Beyond this, or [`max_queued_bytes`](Self::max_queued_bytes), the
    /// oldest waiting QoS 0 message is dropped and counted; if only QoS 1 messages wait, the client is
    /// disconnected (5: 0x97 quota exceeded), since a QoS 1 message must not vanish silently.
    pub max_queued: usize,

    /// Bytes (topic, payload and properties) that may wait for one client.
    pub max_queued_bytes: usize,

    /// A client that takes nothing off its socket for this long while something waits for it is disconnected.
    #[serde(rename = "stall_timeout_ms", with = "milliseconds")]
    pub stall_timeout: Duration,

    /// Subscriptions of one client. A further one is refused in its SUBACK (5: 0x97 quota exceeded, 3.1.1: 0x80).
    pub max_subscriptions: usize,

    /// Retained messages kept, over all topics. A message for a further topic is delivered but not kept, which is
    /// logged, and told to an MQTT 5 publisher at QoS 1 (0x97 quota exceeded).
    pub max_retained: usize,

    /// Bytes of retained messages kept; the same rule as for [`max_retained`](Self::max_retained).
    pub max_retained_bytes: usize,

    /// Distinct filters subscribed to since the broker started; the router never forgets one. A new one beyond
    /// this is refused in its SUBACK like one beyond [`max_subscriptions`](Self::max_subscriptions).
    pub max_filters: usize,

    /// Distinct topics published to since the broker started; the router never forgets one that somebody
    /// subscribed to. A message to a new one beyond this is refused (5 at QoS 1: PUBACK 0x97; otherwise the
    /// connection ends).
    pub max_topics: usize,

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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_clients: 400,
            max_waiting: 200,
            connect_timeout: Duration::from_secs(5),
            max_payload: 8 * 1024,
            max_packet_overhead: 8 * 1024,
            max_inflight: 500,
            max_queued: 65_536,
            max_queued_bytes: 32 * 1024 * 1024,
            stall_timeout: Duration::from_secs(30),
            max_subscriptions: 1000,
            max_retained: 10_000,
            max_retained_bytes: 16 * 1024 * 1024,
            max_filters: 10_000,
            max_topics: 50_000,
            window: 512 * 1024,
            exact_window: 4 * 1024,
            heartbeat: Duration::from_secs(1),
            heartbeat_timeout: Duration::from_secs(3),
        }
    }
}

impl Limits {
    /// The largest packet accepted, and what MQTT 5 clients are told.
    pub(crate) fn max_packet(&self) -> u32 {
        u32::try_from(self.max_payload.saturating_add(self.max_packet_overhead)).unwrap_or(u32::MAX)
    }

    /// Notes every value that does not make sense. None may be 0.
    pub(crate) fn note_problems(&self, wrong: &mut Problems) {
        match toml::Table::try_from(self) {
            Ok(all) => {
                for (key, _) in all.iter().filter(|(_, value)| value.as_integer() == Some(0)) {
                    wrong.unless(false, || format!("limits.{key} = 0: expected at least 1"));
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

//! An application message, and the envelope in which it travels through the router.
//!
//! The router is given QoS 0, never retained, without properties; so what a subscriber's side needs besides topic and
//! payload travels in front of the payload, in an envelope of our own:
//!
//! ```text
//! 1  flags: bits 0 and 1 the publisher's QoS, bit 2 its RETAIN flag
//! 8  sequence number, unique in this broker (to recognise the copies that overlapping subscriptions make)
//! 8  publisher: number of its session (for MQTT 5 "no local")
//! 8  when it was received, in milliseconds since the broker started (for message expiry)
//! 4  length of the properties
//! …  properties as MQTT 5 encodes them (section 2.2.2, with their length), or nothing
//! …  payload
//! ```
//!
//! Numbers are little-endian. An envelope rather than an id into a table of messages: nothing has to be kept in step
//! with what the router drops, and payload and properties are slices of one buffer, shared by all subscribers.

use bytes::{BufMut, Bytes, BytesMut};

const HEADER: usize = 1 + 8 + 8 + 8 + 4;
const RETAIN: u8 = 0b100;

/// The delivery promise of a message, under the names of MQTT 5 section 4.3.
#[allow(clippy::enum_variant_names, reason = "the specification's names")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// QoS 0: at most once.
    AtMostOnce,
    /// QoS 1: at least once.
    AtLeastOnce,
    /// QoS 2: exactly once.
    ExactlyOnce,
}

impl Qos {
    /// All of them, by number.
    const ALL: [Self; 3] = [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce];

    /// Whether a message of this QoS is acknowledged, so that it must not be lost.
    pub fn is_assured(self) -> bool {
        self > Self::AtMostOnce
    }
}

/// Milliseconds since the broker started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

/// One application message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique in this broker, given by the router's side when it is published.
    pub sequence: u64,
    /// Number of the publishing session; 0 for the broker itself.
    pub publisher: u64,
    /// When the broker received it.
    pub received: Millis,
    /// Valid topic name.
    pub topic: String,
    /// QoS of the publisher.
    pub qos: Qos,
    /// RETAIN flag of the publisher.
    pub retain: bool,
    /// MQTT 5 properties in wire format with their length in front, or empty.
    pub properties: Bytes,
    /// The application's bytes.
    pub payload: Bytes,
}

impl Message {
    /// Bytes this message counts with in queues and in the retained store.
    pub fn size(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.len()
    }

    /// The envelope with the payload: what the router carries.
    pub fn to_envelope(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER + self.properties.len() + self.payload.len());
        bytes.put_u8(self.qos as u8 | if self.retain { RETAIN } else { 0 });
        bytes.put_u64_le(self.sequence);
        bytes.put_u64_le(self.publisher);
        bytes.put_u64_le(self.received.0);
        // Packets are at most a few KiB, so this fits; saturating keeps it total.
        bytes.put_u32_le(u32::try_from(self.properties.len()).unwrap_or(u32::MAX));
        bytes.put_slice(&self.properties);
        bytes.put_slice(&self.payload);
        bytes.freeze()
    }

    /// The message in an envelope; `None` for bytes that [`to_envelope`](Self::to_envelope) did not make.
    pub fn from_envelope(topic: &str, envelope: &Bytes) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(envelope.get(at..at + 8)?.try_into().ok()?));
        let flags = *envelope.first()?;
        let length = u32::from_le_bytes(envelope.get(25..HEADER)?.try_into().ok()?);
        let payload_at = HEADER.checked_add(usize::try_from(length).ok()?)?;
        if payload_at > envelope.len() {
            return None;
        }
        Some(Self {
            sequence: number(1)?,
            publisher: number(9)?,
            received: Millis(number(17)?),
            topic: topic.to_owned(),
            qos: *Qos::ALL.get(usize::from(flags & 0b11))?,
            retain: flags & RETAIN != 0,
            properties: envelope.slice(HEADER..payload_at),
            payload: envelope.slice(payload_at..),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn message(topic: &str, qos: Qos, payload: &str) -> Message {
        Message {
            sequence: 7,
            publisher: 3,
            received: Millis(12),
            topic: topic.to_owned(),
            qos,
            retain: false,
            properties: Bytes::new(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
        }
    }

    #[test]
    fn a_message_comes_out_of_its_envelope_as_it_went_in() {
        for properties in [&b""[..], b"\x05\x26\x00\x00\x00\x00"] {
            for (qos, retain) in [(Qos::AtMostOnce, true), (Qos::AtLeastOnce, false), (Qos::ExactlyOnce, true)] {
                let sent =
                    Message { retain, properties: Bytes::copy_from_slice(properties), ..message("é/x", qos, "hello") };
                assert_eq!(Message::from_envelope("é/x", &sent.to_envelope()), Some(sent));
            }
        }
    }

    #[test]
    fn truncated_envelopes_are_not_messages() {
        let whole =
            Message { properties: Bytes::from_static(b"\x05\x26\0\0\0\0"), ..message("t", Qos::AtMostOnce, "") };
        let bytes = whole.to_envelope();
        for length in 0..bytes.len() {
            assert_eq!(Message::from_envelope("t", &bytes.slice(..length)), None, "{length}");
        }
    }
}

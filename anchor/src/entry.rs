//! One entry of the log: when the anchor received what, on which topic.
//!
//! ```text
//! {"received_ms":1475863281201,"topic":"grid/demo/cp-3/measurement","payload":"{\"from\":…}"}
//! ```
//!
//! in this order and without spaces. The payload is the message's bytes as a JSON string, so that a person can read the
//! log; `payload_base64` where they are not UTF-8. What would exceed 65,535 bytes, which no bundle can hold, goes in as
//! `payload_sha256` (hex) and `payload_length`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_protocol::units::UnixMillis;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bundle::LONGEST_ENTRY;
use crate::hex::hex;

/// The longest topic that is logged. With it, an entry with a digest instead of its payload always fits.
pub const LONGEST_TOPIC: usize = 1024;

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When the anchor received the message.
    pub received_ms: UnixMillis,
    /// The topic it came on.
    pub topic: Cow<'a, str>,
    /// What it said.
    pub payload: Payload<'a>,
}

/// What a message said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Its bytes.
    Bytes(Cow<'a, [u8]>),
    /// Only a digest of them, since they are too many.
    Digest {
        /// SHA-256, hex.
        sha256: Cow<'a, str>,
        /// How many bytes it had.
        length: u64,
    },
}

/// Why bytes are not an entry.
#[derive(Debug, thiserror::Error)]
pub enum BadEntry {
    /// It is not JSON with these members.
    #[error("it is not {{\"received_ms\":…,\"topic\":…,\"payload\":…}} ({0})")]
    Json(#[from] serde_json::Error),
    /// It has no payload, or more than one, or one that is not base64.
    #[error("it needs one of payload, payload_base64, or payload_sha256 with payload_length")]
    Payload,
    /// It says the same in other bytes than this log writes: other order, spaces, escapes.
    #[error("it is not written as this log writes entries")]
    Spelling,
}

/// The members as they stand in the entry.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    received_ms: u64,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload_sha256: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_length: Option<u64>,
}

impl Members<'_> {
    fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|error| unreachable!("text and numbers are always JSON: {error}"))
    }
}

/// Writes the entry for a message on a topic of at most [`LONGEST_TOPIC`] bytes.
pub fn write(received_ms: UnixMillis, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut members = Members {
        received_ms: received_ms.0,
        topic: topic.into(),
        payload: None,
        payload_base64: None,
        payload_sha256: None,
        payload_length: None,
    };
    match std::str::from_utf8(payload) {
        Ok(text) => members.payload = Some(text.into()),
        Err(_) => members.payload_base64 = Some(STANDARD.encode(payload).into()),
    }
    let entry = members.write();
    if entry.len() <= LONGEST_ENTRY {
        return entry;
    }
    let sha256 = hex(&Sha256::digest(payload));
    let digest = Members {
        payload: None,
        payload_base64: None,
        payload_sha256: Some(sha256.into()),
        payload_length: Some(payload.len() as u64),
        ..members
    };
    digest.write()
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Reads an entry. Accepts only what [`write()`] writes; of a digest, as far as that can be told.
pub fn read(bytes: &[u8]) -> Result<Entry<'_>, BadEntry> {
    let members: Members = serde_json::from_slice(bytes)?;
    if members.write() != bytes {
        return Err(BadEntry::Spelling);
    }
    let payload = match (members.payload, members.payload_base64, members.payload_sha256, members.payload_length) {
        (Some(Cow::Borrowed(text)), None, None, None) => Payload::Bytes(Cow::Borrowed(text.as_bytes())),
        (Some(Cow::Owned(text)), None, None, None) => Payload::Bytes(Cow::Owned(text.into_bytes())),
        (None, Some(text), None, None) => {
            let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| BadEntry::Payload)?;
            if std::str::from_utf8(&bytes).is_ok() {
                return Err(BadEntry::Spelling);
            }
            Payload::Bytes(Cow::Owned(bytes))
        }
        (None, None, Some(sha256), Some(length)) if is_sha256(&sha256) => Payload::Digest { sha256, length },
        _ => return Err(BadEntry::Payload),
    };
    Ok(Entry { received_ms: UnixMillis(members.received_ms), topic: members.topic, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_475_863_281_201);
    const TOPIC: &str = "grid/demo/cp-3/event";

    fn round(payload: &[u8]) {
        let bytes = write(NOW, TOPIC, payload);
        let entry = read(&bytes).unwrap();
        assert_eq!((entry.received_ms, entry.topic.as_ref()), (NOW, TOPIC));
        assert_eq!(entry.payload, Payload::Bytes(payload.into()));
    }

    #[test]
    fn an_entry_is_what_the_format_promises() {
        let bytes = write(NOW, TOPIC, "{\"a\":\"ü\\\"\"}".as_bytes());
        let expected = r#"{"received_ms":1475863281201,"topic":"grid/demo/cp-3/event","payload":"{\"a\":\"ü\\\"\"}"}"#;
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn every_payload_reads_back_byte_for_byte() {
        round(b"");
        round(b"{\"a\":1}");
        round("\u{0}\u{1f}\u{7f}\u{2028}\u{10ffff}\"\\/".as_bytes());
        round(&[0xff, 0xfe, 0]);
        round(&(0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn what_is_too_long_goes_in_as_its_digest() {
        let payload = vec![b'x'; 65_535];
        let bytes = write(NOW, TOPIC, &payload);
        assert!(bytes.len() < 300);
        let Payload::Digest { sha256, length } = read(&bytes).unwrap().payload else { panic!() };
        assert_eq!((sha256.len(), length), (64, 65_535));
        let longest = "\u{1}".repeat(LONGEST_TOPIC);
        assert!(write(NOW, &longest, &payload).len() <= LONGEST_ENTRY);
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            r#"{"topic":"a","received_ms":1,"payload":"x"}"#,
            r#"{"received_ms":1,"topic":"a","payload":"x"} "#,
            r#"{"received_ms":1, "topic":"a","payload":"x"}"#,
            r#"{"received_ms":1,"topic":"\u0061","payload":"x"}"#,
            r#"{"received_ms":1,"topic":"a"}"#,
            r#"{"received_ms":1,"topic":"a","payload":"x","payload_base64":""}"#,
            r#"{"received_ms":1,"topic":"a","payload_base64":"x"}"#,
            r#"{"received_ms":1,"topic":"a","payload_base64":"dGV4dA=="}"#,
            r#"{"received_ms":1,"topic":"a","payload_sha256":"00ff","payload_length":70000}"#,
            &format!(r#"{{"received_ms":1,"topic":"a","payload_sha256":"{}","payload_length":70000}}"#, "F".repeat(64)),
            r#"{"received_ms":1,"topic":"a","payload":"x","more":1}"#,
            r#"[]"#,
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

//! How a message is signed, opened and checked.
//!
//! The last member of a signed message is `"sig"`: Ed25519 (RFC 8032) of a sender's message key, or ECDSA P-256 of the
//! site's authority ([`crate::revocation`]), either 64 bytes in base64url without padding, over the bytes
//!
//! ```text
//! grid/v1 LF topic LF payload-before-sig
//! ```
//!
//! where *payload-before-sig* is all of the payload before `,"sig":"`. There is no canonical form: the bytes are what
//! they are. A payload must end in exactly `,"sig":"<86 characters>"}`, is at most 8 KiB, and is unambiguous JSON
//! ([`crate::json`]). The topic is signed along, so a message cannot be moved to another device or kind.
//!
//! [`Sealed::parse`] does not look at the signature: only [`Sealed::verify`] does.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json;
use crate::topic::Topic;

/// The largest payload in bytes.
pub const MAX_PAYLOAD: usize = 8 * 1024;

const BEFORE: &[u8] = br#","sig":""#;
const AFTER: &[u8] = br#""}"#;
const SIGNATURE_BYTES: usize = 64;
/// So many bytes in base64 without padding.
const SIGNATURE_CHARACTERS: usize = 86;
const TAIL: usize = BEFORE.len() + SIGNATURE_CHARACTERS + AFTER.len();

/// Why a message could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The value does not serialise to a JSON object with members.
    #[error("a message is a JSON object with at least one member, not {0:?}")]
    NotAnObject(String),
    /// The value does not serialise.
    #[error("this message cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The result is longer than [`MAX_PAYLOAD`].
    #[error("a signed message of {0} bytes is too long: at most {MAX_PAYLOAD}")]
    TooLong(usize),
}

/// Why a payload is no signed message.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Longer than [`MAX_PAYLOAD`].
    #[error("a payload of {0} bytes is too long: at most {MAX_PAYLOAD}")]
    TooLong(usize),
    /// The payload does not end as a signed message must.
    #[error("the payload does not end in ,\"sig\":\"<86 characters of base64url>\"}}")]
    NoSignature,
    /// The payload is not the JSON we accept.
    #[error(transparent)]
    Json(#[from] json::BadJson),
    /// A member is missing or has the wrong type.
    #[error("this is not the message its topic promises: {0}")]
    Shape(#[source] serde_json::Error),
}

/// The signature is not that key's over this message on this topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not the sender's")]
pub struct BadSignature;

/// Signs `message` for `topic` and returns the payload to publish.
pub fn seal<T: Serialize>(topic: &Topic, message: &T, key: &SigningKey) -> Result<Vec<u8>, SealError> {
    seal_with(topic, message, |bytes| Ok(key.sign(bytes).to_bytes()))
}

/// Signs `message` for `topic` with whatever `sign` makes of the bytes to be signed.
pub(crate) fn seal_with<T: Serialize, E: From<SealError>>(
    topic: &Topic,
    message: &T,
    sign: impl FnOnce(&[u8]) -> Result<[u8; SIGNATURE_BYTES], E>,
) -> Result<Vec<u8>, E> {
    let mut payload = serde_json::to_vec(message).map_err(SealError::Json)?;
    if payload.len() < 3 || payload.first() != Some(&b'{') || payload.pop() != Some(b'}') {
        return Err(SealError::NotAnObject(String::from_utf8_lossy(&payload).into_owned()).into());
    }
    let signature = sign(&signed_bytes(&topic.to_string(), &payload))?;
    payload.extend_from_slice(BEFORE);
    payload.extend_from_slice(URL_SAFE_NO_PAD.encode(signature).as_bytes());
    payload.extend_from_slice(AFTER);
    if payload.len() > MAX_PAYLOAD {
        return Err(SealError::TooLong(payload.len()).into());
    }
    Ok(payload)
}

fn signed_bytes(topic: &str, before_sig: &[u8]) -> Vec<u8> {
    [b"grid/v1\n", topic.as_bytes(), b"\n", before_sig].concat()
}

/// A payload that has the form of a signed message. Whether the signature holds is for [`Sealed::verify`] to say.
#[derive(Clone, Debug)]
pub struct Sealed<'a> {
    payload: &'a [u8],
    signature: [u8; SIGNATURE_BYTES],
}

impl<'a> Sealed<'a> {
    /// Reads the form: length, end, JSON. Does **not** check the signature.
    pub fn parse(payload: &'a [u8]) -> Result<Self, OpenError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(OpenError::TooLong(payload.len()));
        }
        let tail = payload.len().checked_sub(TAIL).and_then(|at| payload.get(at..)).ok_or(OpenError::NoSignature)?;
        let characters =
            tail.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(AFTER)).ok_or(OpenError::NoSignature)?;
        let bytes = URL_SAFE_NO_PAD.decode(characters).map_err(|_| OpenError::NoSignature)?;
        let signature = bytes.try_into().map_err(|_| OpenError::NoSignature)?;
        json::check(payload)?;
        Ok(Self { payload, signature })
    }

    /// Reads the message, or only some of its members. What is returned is no more trusted than before.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, OpenError> {
        serde_json::from_slice(self.payload).map_err(OpenError::Shape)
    }

    /// What must have been signed for `topic`.
    pub fn signed_bytes(&self, topic: &str) -> Vec<u8> {
        signed_bytes(topic, &self.payload[..self.payload.len() - TAIL])
    }

    /// The signature that it bears, be it right or wrong.
    pub fn signature(&self) -> Signature {
        Signature::from_bytes(&self.signature)
    }

    /// Checks that `key` signed this message for `topic`. Strictly: small-order keys and points are refused.
    pub fn verify(&self, topic: &str, key: &VerifyingKey) -> Result<(), BadSignature> {
        self.verify_with(topic, |bytes, signature| {
            key.verify_strict(bytes, &Signature::from_bytes(signature)).map_err(|_| BadSignature)
        })
    }

    /// Leaves it to `check` whether the signature holds over the signed bytes.
    pub(crate) fn verify_with<E>(
        &self,
        topic: &str,
        check: impl FnOnce(&[u8], &[u8; SIGNATURE_BYTES]) -> Result<(), E>,
    ) -> Result<(), E> {
        check(&self.signed_bytes(topic), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn topic() -> Topic {
        "grid/demo/cp-3/event".parse().unwrap()
    }

    fn note() -> Vec<u8> {
        seal(&topic(), &Note { text: "grüß Gott \"quoted\"".into() }, &key()).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_verifies_and_reads_back() {
        let payload = note();
        let sealed = Sealed::parse(&payload).unwrap();
        sealed.verify(&topic().to_string(), &key().verifying_key()).unwrap();
        assert_eq!(sealed.read::<Note>().unwrap().text, "grüß Gott \"quoted\"");
    }

    #[test]
    fn changing_any_byte_is_noticed() {
        let payload = note();
        for at in 0..payload.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut changed = payload.clone();
                changed[at] ^= flip;
                let holds = Sealed::parse(&changed)
                    .is_ok_and(|sealed| sealed.verify(&topic().to_string(), &key().verifying_key()).is_ok());
                assert!(!holds, "byte {at} xor {flip:#x}");
            }
        }
    }

    #[test]
    fn a_message_holds_only_on_its_own_topic_and_for_its_own_key() {
        let payload = note();
        let sealed = Sealed::parse(&payload).unwrap();
        assert_eq!(sealed.verify("grid/demo/cp-4/event", &key().verifying_key()), Err(BadSignature));
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert_eq!(sealed.verify(&topic().to_string(), &other), Err(BadSignature));
    }

    #[test]
    fn a_second_sig_member_is_refused() {
        let inner = String::from_utf8(note()).unwrap();
        let doubled = format!("{}{}", &inner[..inner.len() - 1], &inner[inner.len() - TAIL..]);
        assert!(matches!(Sealed::parse(doubled.as_bytes()), Err(OpenError::Json(_))));
    }

    #[test]
    fn too_long_is_refused_on_both_sides() {
        let long = Note { text: "x".repeat(MAX_PAYLOAD) };
        assert!(matches!(seal(&topic(), &long, &key()), Err(SealError::TooLong(_))));
        assert!(matches!(Sealed::parse(&vec![b' '; MAX_PAYLOAD + 1]), Err(OpenError::TooLong(_))));
    }

    #[test]
    fn only_objects_with_members_are_sealed() {
        #[derive(Serialize)]
        struct Empty {}
        assert!(matches!(seal(&topic(), &Empty {}, &key()), Err(SealError::NotAnObject(_))));
        assert!(matches!(seal(&topic(), &17, &key()), Err(SealError::NotAnObject(_))));
    }
}

//! What a stranger does with a proof: everything again, from nothing but the policy.

use std::sync::Arc;

use grid_protocol::message::{Role, Session};
use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;
use serde::Serialize;
use tlog_tiles::{check_record, record_hash};

use super::Proof;
use crate::checkpoint::{BadCheckpoint, Head};
use crate::entry::{self, BadEntry, Entry, Payload};
use crate::notice::Notice;
use crate::policy::Policy;
use crate::speech::{Content, Heard, Signed, Speakers, Unverified, hear};
use crate::verify::Bracket;

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proven {
    /// The log's name.
    pub origin: String,
    /// The entry's place in it, from 0.
    pub index: u64,
    /// How many entries are under the checkpoint.
    pub tree_size: u64,
    /// The root hash in the checkpoint, base64.
    pub root_hash: String,
    /// When the anchor says that it received the message.
    pub received_ms: UnixMillis,
    /// The topic it came on.
    pub topic: String,
    /// What was said, byte for byte where it is UTF-8.
    pub payload: String,
    /// Who said it; nobody where it is not signed.
    pub spoken: Option<Spoken>,
}

/// Who said something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spoken {
    /// Who.
    pub from: Name,
    /// As what.
    #[serde(serialize_with = "as_text")]
    pub role: Role,
    /// In which session.
    pub session: Session,
    /// The how manieth message there; none for a last will.
    pub seq: Option<u64>,
    /// When, on the sender's own clock.
    pub time_ms: UnixMillis,
    /// The serial number of the certificate by which it is judged.
    pub certificate_serial: String,
}

fn as_text<S: serde::Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.as_str())
}

/// Why a proof proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum BadProof {
    /// The log did not sign its checkpoint.
    #[error("its checkpoint is not this log's: {0}")]
    Checkpoint(#[from] BadCheckpoint),
    /// The entry does not stand there.
    #[error("entry {index} of the {size} under its checkpoint is not this one")]
    NotIncluded {
        /// Which it claims to be.
        index: u64,
        /// How many there are.
        size: u64,
    },
    /// What stands there is no entry.
    #[error("entry {index} stands in the log, but {why}")]
    Entry {
        /// Which.
        index: u64,
        /// What is wrong.
        why: BadEntry,
    },
    /// The entry proves nothing about who said it.
    #[error(
        "entry {index} stands in the log, received {} on {topic}, but nobody vouches for it: {why}",
        crate::show::date(*received_ms)
    )]
    Unverified {
        /// Which.
        index: u64,
        /// When it was received.
        received_ms: UnixMillis,
        /// On which topic.
        topic: String,
        /// Why.
        why: Unverified,
    },
    /// The proof has no certificate.
    #[error("entry {0} is a signed message, but the proof has no certificate to judge it by")]
    NoCertificate(u64),
    /// Only a digest of the message was logged.
    #[error("entry {0} holds only the SHA-256 of a message too long for the log")]
    Digest(u64),
}

/// Checks a proof: the log's signature, inclusion, the entry's form, its certificate and its signature. The certificate
/// must be valid when the anchor received the message, a time that is taken to lie in the ledger's `bracket`.
pub fn check_proof(proof: &Proof, policy: &Policy, bracket: Bracket) -> Result<Proven, BadProof> {
    let index = proof.index;
    let head = policy.log.open(&proof.checkpoint)?;
    check_inclusion(proof, &head)?;
    let entry = entry::read(&proof.entry).map_err(|why| BadProof::Entry { index, why })?;
    let at = bracket.clamp(entry.received_ms);
    let Payload::Bytes(payload) = &entry.payload else { return Err(BadProof::Digest(index)) };
    let unverified =
        |why| BadProof::Unverified { index, received_ms: entry.received_ms, topic: entry.topic.to_string(), why };
    let mut speakers = Speakers::new(policy.site.clone(), policy.authority.clone());
    let spoken = if entry.topic == Notice::topic(&policy.site) {
        None
    } else {
        match hear(&entry.topic, payload).map_err(unverified)? {
            Heard::Command(topic) if topic.site == policy.site => None,
            Heard::Command(topic) => return Err(unverified(Unverified::NotLogged(topic))),
            Heard::Revocations(topic) => {
                speakers.check_revocations(&topic, payload).map_err(unverified)?;
                None
            }
            Heard::Signed(signed) => {
                if let Content::Overflow { .. } | Content::Other = signed.content {
                    let certificate = proof.certificate.as_ref().ok_or(BadProof::NoCertificate(index))?;
                    let who = speakers.vouch(certificate, at).map_err(unverified)?;
                    speakers.learn_repeated(&signed.header.from, signed.header.session, Arc::new(who));
                }
                Some(judge(&speakers, &signed, at).map_err(unverified)?)
            }
        }
    };
    Ok(proven(index, &head, &entry, payload, spoken))
}

/// Checks that the entry stands in the log under a head, whoever vouches for that.
pub fn check_inclusion(proof: &Proof, head: &Head) -> Result<(), BadProof> {
    let Head { size, root, .. } = *head;
    check_record(&proof.path, size, root, proof.index, record_hash(&proof.entry))
        .map_err(|_| BadProof::NotIncluded { index: proof.index, size })
}

fn judge(speakers: &Speakers, signed: &Signed, at: UnixMillis) -> Result<Spoken, Unverified> {
    let who = speakers.who(signed, at)?;
    signed.verify(&who)?;
    let header = &signed.header;
    Ok(Spoken {
        from: header.from.clone(),
        role: who.identity.role,
        session: header.session,
        seq: header.seq,
        time_ms: header.time_ms,
        certificate_serial: who.serial.to_string(),
    })
}

fn proven(index: u64, head: &Head, entry: &Entry, payload: &[u8], spoken: Option<Spoken>) -> Proven {
    Proven {
        origin: head.origin.clone(),
        index,
        tree_size: head.size,
        root_hash: head.root.to_string(),
        received_ms: entry.received_ms,
        topic: entry.topic.to_string(),
        payload: String::from_utf8_lossy(payload).into_owned(),
        spoken,
    }
}

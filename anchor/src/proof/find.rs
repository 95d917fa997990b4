//! Finding a message in a log, and the certificate by which it is judged.
//!
//! A log has no index by message: its entries are looked through, on all cores, and only those are read that may say
//! something about the sender.

use std::ops::ControlFlow;

use grid_protocol::message::Session;
use grid_protocol::revocation;
use grid_protocol::topic::Name;

use crate::checkpoint::{BadCheckpoint, read_unsigned};
use crate::entry::{self, Payload};
use crate::notice::Notice;
use crate::policy::Policy;
use crate::source::{FileError, Source, SourceError, dropped_bundles, scan};
use crate::speech::{Content, Heard, Speakers, Unverified, hear};
use crate::tile::FULL;
use crate::verify::recall;
use std::sync::Arc;

/// The message that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Who said it.
    pub device: Name,
    /// In which session.
    pub session: Session,
    /// The how manieth there.
    pub seq: u64,
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its place in the log.
    pub index: u64,
    /// The certificate (DER) by which it is judged.
    pub certificate: Vec<u8>,
}

/// Why a message was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The checkpoint cannot be read.
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] BadCheckpoint),
    /// It is not there.
    #[error(
        "there is no message {} of {} in session {} under the checkpoint of {size} entries{}. If it was said a moment ago, \
         wait for the next checkpoint",
        wanted.seq, wanted.device, wanted.session, before(*.first)
    )]
    NotThere {
        /// What was looked for.
        wanted: Wanted,
        /// How many entries the checkpoint covers.
        size: u64,
        /// The first that retention left.
        first: u64,
    },
    /// It is there, and proves nothing.
    #[error("entry {index} claims to be that message, but proves nothing: {why}")]
    Unverified {
        /// Which.
        index: u64,
        /// Why.
        why: Unverified,
    },
    /// The log cannot be looked through.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be told what the log holds.
    #[error(transparent)]
    Source(#[from] SourceError),
}

fn before(first: u64) -> String {
    if first == 0 { String::new() } else { format!(", of which those before entry {first} were dropped") }
}

/// Looks for a message under this checkpoint, whose signature is not looked at. Where `at` is given, only the entry with
/// this index can be it. Of several that claim to be it, the first that its sender signed is.
pub fn find(
    log: &dyn Source,
    checkpoint: &[u8],
    policy: &Policy,
    wanted: &Wanted,
    at: Option<u64>,
) -> Result<Found, FindError> {
    let size = read_unsigned(checkpoint)?.head.size;
    let dropped = dropped_bundles(log, size)?;
    let mut speakers = Speakers::new(policy.site.clone(), policy.authority.clone());
    if dropped > 0 {
        // What was dropped after this checkpoint was written is repeated behind it.
        let newest = newest_size(log)?;
        recall(log, size.max(newest), dropped, &mut speakers)?;
    }
    let marks = Marks::of(policy, wanted);
    let mut found = None;
    let mut doubt = None;
    let pick = |index, bytes: &[u8]| marks.may_matter(bytes).then(|| (index, bytes.to_vec()));
    scan(log, size, dropped, pick, |(index, bytes)| {
        let is_candidate = at.is_none_or(|at| at == index);
        match judge(&mut speakers, &bytes, wanted, is_candidate) {
            None => {}
            Some(Ok(certificate)) => {
                found = Some(Found { index, certificate });
                return ControlFlow::Break(());
            }
            Some(Err(why)) => doubt = Some((index, why)),
        }
        ControlFlow::Continue(())
    })?;
    match (found, doubt) {
        (Some(found), _) => Ok(found),
        (None, Some((index, why))) => Err(FindError::Unverified { index, why }),
        (None, None) => Err(FindError::NotThere { wanted: wanted.clone(), size, first: dropped * u64::from(FULL) }),
    }
}

/// How many entries the log has by now.
fn newest_size(log: &dyn Source) -> Result<u64, FindError> {
    let path = "checkpoint".to_owned();
    let newest = log.read(&path).map_err(|why| FileError::Read { path, why })?;
    Ok(read_unsigned(&newest)?.head.size)
}

/// What the bytes of an entry contain that may matter.
struct Marks {
    topics: [String; 3],
    session: String,
    seq: String,
}

impl Marks {
    fn of(policy: &Policy, wanted: &Wanted) -> Self {
        let topic = |topic: &str| format!("\"topic\":\"{topic}\"");
        let status = format!("grid/{}/{}/status", policy.site, wanted.device);
        let revoked = revocation::topic(&policy.site).to_string();
        Self {
            topics: [topic(&status), topic(&revoked), topic(&Notice::topic(&policy.site))],
            session: wanted.session.to_string(),
            seq: wanted.seq.to_string(),
        }
    }

    fn may_matter(&self, bytes: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        self.topics.iter().any(|topic| text.contains(topic.as_str()))
            || (text.contains(self.session.as_str()) && text.contains(self.seq.as_str()))
    }
}

/// Hears an entry. If it claims to be the wanted message, says by which certificate it is, or why it proves nothing.
fn judge(
    speakers: &mut Speakers,
    bytes: &[u8],
    wanted: &Wanted,
    is_candidate: bool,
) -> Option<Result<Vec<u8>, Unverified>> {
    let entry = entry::read(bytes).ok()?;
    let Payload::Bytes(payload) = &entry.payload else { return None };
    let signed = match hear(&entry.topic, payload).ok()? {
        Heard::Signed(signed) if signed.header.from == wanted.device => signed,
        Heard::Revocations(topic) => {
            if let Ok(list) = speakers.check_revocations(&topic, payload) {
                speakers.revoke(&list);
            }
            return None;
        }
        Heard::Signed(_) | Heard::Command(_) => return None,
    };
    let header = &signed.header;
    let is_claimed = is_candidate && header.session == wanted.session && header.seq == Some(wanted.seq);
    let is_status = matches!(signed.content, Content::Status { .. });
    if !is_claimed && !is_status {
        return None;
    }
    let judged = speakers.who(&signed, entry.received_ms).and_then(|who| signed.verify(&who).map(|()| who));
    if let (true, Ok(who)) = (is_status, &judged) {
        speakers.learn(&header.from, header.session, Arc::clone(who));
    }
    is_claimed.then(|| judged.map(|who| who.certificate.clone()))
}

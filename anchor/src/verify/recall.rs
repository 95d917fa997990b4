//! What a log whose beginning was dropped still knows of it: the certificates and lists of revocations that the anchor
//! repeats ([`crate::notice`]).
//!
//! A notice stands behind the entries that it is for, since it was written when what is in front of them was dropped. So
//! the notices are read first. They prove themselves, and a certificate vouches for nobody but who holds its key. A list
//! that does not stand in the rest before its notice stood in what was dropped: it counts for all of the rest.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_protocol::message::Session;
use grid_protocol::revocation;
use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;
use sha2::{Digest, Sha256};

use crate::entry::{self, Payload};
use crate::notice::Notice;
use crate::source::{FileError, Source, scan};
use crate::speech::{Speakers, Unverified, Vouched};

/// What is read before the rest of a log.
enum Recalled {
    Repeated(Notice, UnixMillis),
    /// A list that stands as itself, by its digest.
    List([u8; 32]),
}

/// Teaches `speakers` what the anchor repeats in a log of `size` entries of which so many bundles were dropped. Nothing of
/// it is kept besides: somebody else's log may be full of notices.
pub fn recall(log: &dyn Source, size: u64, dropped: u64, speakers: &mut Speakers) -> Result<(), FileError> {
    let notices = Notice::topic(speakers.site());
    let lists = revocation::topic(speakers.site()).to_string();
    let marks = [&notices, &lists].map(|topic| format!("\"topic\":\"{topic}\"").into_bytes());
    let pick = |_: u64, bytes: &[u8]| {
        // The topic is never far from the beginning: most entries are passed by without reading them.
        let beginning = &bytes[..bytes.len().min(160)];
        if !marks.iter().any(|mark| beginning.windows(mark.len()).any(|window| window == mark)) {
            return None;
        }
        let entry = entry::read(bytes).ok()?;
        let Payload::Bytes(payload) = entry.payload else { return None };
        if entry.topic == notices {
            return Notice::read(&payload).map(|notice| Recalled::Repeated(notice, entry.received_ms));
        }
        (entry.topic == lists).then(|| Recalled::List(digest(&payload)))
    };
    let mut standing = HashSet::new();
    scan(log, size, dropped, pick, |recalled| {
        match recalled {
            Recalled::Repeated(Notice::Certificate { name, session, der }, at) => {
                if let Ok(who) = repeated_certificate(speakers, &name, &der, at) {
                    speakers.learn_repeated(&name, session, who);
                }
            }
            Recalled::Repeated(Notice::Revoked(list), _) if !standing.contains(&digest(list.as_bytes())) => {
                let topic = revocation::topic(speakers.site());
                if let Ok(list) = speakers.check_revocations(&topic, list.as_bytes()) {
                    speakers.revoke(&list);
                }
            }
            Recalled::Repeated(Notice::Revoked(_) | Notice::NotLogged(_), _) => {}
            Recalled::List(list) => drop(standing.insert(list)),
        }
        ControlFlow::Continue(())
    })
}

fn digest(list: &[u8]) -> [u8; 32] {
    Sha256::digest(list).into()
}

/// The certificate in a notice, if the authority vouches for it and it is that of `name`.
pub fn repeated_certificate(
    speakers: &Speakers,
    name: &Name,
    der: &str,
    at: UnixMillis,
) -> Result<Arc<Vouched>, Unverified> {
    let der = STANDARD.decode(der).map_err(|_| Unverified::Base64)?;
    let who = speakers.vouch(&der, at)?;
    if who.identity.name != *name {
        return Err(Unverified::OtherIdentity(who.identity.to_uri()));
    }
    Ok(Arc::new(who))
}

/// Whether a notice holds, and what it teaches where it stands.
pub fn hear_notice(speakers: &mut Speakers, notice: &Notice, at: UnixMillis) -> Result<(), Unverified> {
    match notice {
        Notice::NotLogged(_) => Ok(()),
        Notice::Certificate { name, session, der } => learn(speakers, name, *session, der, at),
        Notice::Revoked(list) => {
            let topic = revocation::topic(speakers.site());
            let list = speakers.check_revocations(&topic, list.as_bytes())?;
            speakers.revoke(&list);
            Ok(())
        }
    }
}

fn learn(speakers: &mut Speakers, name: &Name, session: Session, der: &str, at: UnixMillis) -> Result<(), Unverified> {
    let who = repeated_certificate(speakers, name, der, at)?;
    speakers.learn_repeated(name, session, who);
    Ok(())
}

//! Which messages count: the rule of intake and verifier, message by message.
//!
//! A log also holds what nobody vouches for, since a forgery attempt is evidence. Without a policy there is nobody who
//! could tell it from the rest.

use grid_protocol::revocation;

use crate::entry::{Entry, Payload};
use crate::notice::Notice;
use crate::policy::Policy;
use crate::show::Extent;
use crate::source::FileError;
use crate::speech::{Content, Heard, Speakers, hear};
use crate::tile::FULL;
use crate::verify::{hear_notice, recall};

/// Tells the genuine from the forged.
pub struct Genuine {
    speakers: Speakers,
    /// The topics on which lists of revoked certificates and the anchor's notices stand.
    teaching: [String; 2],
}

impl Genuine {
    /// By the authority that a policy names. What entries taught that were dropped is known from what the anchor repeats.
    pub fn new(policy: &Policy, log: &Extent) -> Result<Self, FileError> {
        let mut speakers = Speakers::new(policy.site.clone(), policy.authority.clone());
        if log.is_cut() {
            recall(&log.folder, log.size, log.first / u64::from(FULL), &mut speakers)?;
        }
        Ok(Self::for_speakers(speakers))
    }

    /// Among those of whom `speakers` knows.
    pub fn for_speakers(speakers: Speakers) -> Self {
        let teaching = [revocation::topic(speakers.site()).to_string(), Notice::topic(speakers.site())];
        Self { speakers, teaching }
    }

    /// Whether an entry of this topic says who counts. Such entries are to be heard whatever else is wanted.
    pub fn is_teaching(&self, topic: &str) -> bool {
        self.teaching.iter().any(|teaching| teaching == topic)
    }

    /// Whether an entry was said by whom it says. Entries are to come in the order of the log, statuses and what
    /// [`Self::is_teaching`] above all.
    pub fn is(&mut self, entry: &Entry) -> bool {
        let Payload::Bytes(payload) = &entry.payload else { return false };
        if entry.topic == self.teaching[1] {
            let notice = Notice::read(payload);
            return notice.is_some_and(|notice| hear_notice(&mut self.speakers, &notice, entry.received_ms).is_ok());
        }
        let signed = match hear(&entry.topic, payload) {
            Ok(Heard::Signed(signed)) => signed,
            Ok(Heard::Revocations(topic)) => {
                let list = self.speakers.check_revocations(&topic, payload);
                return list.map(|list| self.speakers.revoke(&list)).is_ok();
            }
            Ok(Heard::Command(_)) | Err(_) => return false,
        };
        let Ok(who) = self.speakers.who(&signed, entry.received_ms) else { return false };
        let holds = signed.verify(&who).is_ok();
        if holds && matches!(signed.content, Content::Status { .. }) {
            self.speakers.learn(&signed.header.from, signed.header.session, who);
        }
        holds
    }
}

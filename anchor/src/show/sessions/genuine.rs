//! Which messages count: the rule of intake and verifier, message by message.
//!
//! A log also holds what nobody vouches for, since a forgery attempt is evidence. Without a policy there is nobody who
//! could tell it from the rest.

use crate::entry::{Entry, Payload};
use crate::policy::Policy;
use crate::speech::{Content, Heard, Speakers, hear};

/// Tells the genuine from the forged.
pub struct Genuine {
    speakers: Speakers,
}

impl Genuine {
    /// By the authority that a policy names.
    pub fn new(policy: &Policy) -> Self {
        Self::for_speakers(Speakers::new(policy.site.clone(), policy.authority.clone()))
    }

    /// Among those of whom `speakers` knows.
    pub fn for_speakers(speakers: Speakers) -> Self {
        Self { speakers }
    }

    /// Whether an entry was said by whom it says. Entries are to come in the order of the log, statuses above all.
    pub fn is(&mut self, entry: &Entry) -> bool {
        let Payload::Bytes(payload) = &entry.payload else { return false };
        let Ok(Heard::Signed(signed)) = hear(&entry.topic, payload) else { return false };
        let Ok(who) = self.speakers.who(&signed, entry.received_ms) else { return false };
        let holds = signed.verify(&who).is_ok();
        if holds && matches!(signed.content, Content::Status { .. }) {
            self.speakers.learn(&signed.header.from, signed.header.session, who);
        }
        holds
    }
}

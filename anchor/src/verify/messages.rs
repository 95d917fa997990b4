//! Whose messages the entries are: each judged by the certificates that stand before it, and counted in its session.

use std::collections::BTreeMap;
use std::sync::Arc;

use grid_protocol::identity::Authority;
use grid_protocol::message::Session;
use grid_protocol::topic::{Name, Topic};
use grid_protocol::units::UnixMillis;
use serde::Serialize;

use super::DeviceSession;
use super::tree::in_parallel;
use crate::entry::{Entry, Payload};
use crate::notice::Notice;
use crate::sequence::Sequence;
use crate::speech::{Content, Heard, Signed, Speakers, Unverified, Vouched, hear};

/// What the entries of a log are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// Signed messages that hold, each (device, session, seq) once.
    pub verified: u64,
    /// How many of them each sender said.
    pub by_sender: BTreeMap<Name, u64>,
    /// Of how many device sessions.
    pub sessions: u64,
    /// Entries that repeat one of those.
    pub duplicates: u64,
    /// Last wills that hold.
    pub last_wills: u64,
    /// Commands. They are not signed.
    pub commands: u64,
    /// Lists of revoked certificates that the site's authority signed.
    pub revocations: u64,
    /// Entries that nobody vouches for.
    pub unverified: u64,
    /// Messages that were counted instead of logged.
    pub not_logged: u64,
    /// Messages that their senders declared lost.
    pub lost: u64,
    /// Messages that are missing without that.
    pub missing: u64,
    /// Where.
    pub gaps: Vec<Gap>,
}

/// Messages of a session that are neither in the log nor declared lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Whose.
    pub device: Name,
    /// In which session.
    pub session: Session,
    /// The first.
    pub from_seq: u64,
    /// The last.
    pub to_seq: u64,
}

#[derive(Default)]
struct Known {
    logged: Sequence,
    lost: Sequence,
    announced: u64,
}

/// Listens to the entries in order.
pub struct Judge {
    speakers: Speakers,
    sessions: BTreeMap<DeviceSession, Known>,
    messages: Messages,
}

enum Found<'a> {
    Command,
    /// A list of revoked certificates whose signature is still to be checked.
    Revocations(Topic, &'a [u8]),
    NotLogged(u64),
    /// A message whose signature is still to be checked.
    Claimed(Box<Signed<'a>>, UnixMillis),
    Unverified,
}

impl Judge {
    /// Knows nobody yet.
    pub fn new(site: Name, authority: Authority) -> Self {
        Self { speakers: Speakers::new(site, authority), sessions: BTreeMap::new(), messages: Messages::default() }
    }

    /// Hears a batch of entries.
    pub fn hear_all(&mut self, bundles: &[Vec<Entry>]) {
        let notices = Notice::topic(self.speakers.site());
        let found =
            in_parallel(bundles, |entries| entries.iter().map(|entry| find(entry, &notices)).collect::<Vec<_>>());
        let mut claims = Vec::new();
        for found in found.into_iter().flatten() {
            match found {
                Found::Command => self.messages.commands += 1,
                Found::Revocations(topic, payload) => match self.speakers.check_revocations(&topic, payload) {
                    Ok(list) => {
                        self.speakers.revoke(&list);
                        self.messages.revocations += 1;
                    }
                    Err(_) => self.messages.unverified += 1,
                },
                Found::NotLogged(count) => self.messages.not_logged += count,
                Found::Unverified => self.messages.unverified += 1,
                Found::Claimed(signed, at) => match self.claim(&signed, at) {
                    Ok(who) => claims.push((signed, who)),
                    Err(_) => self.messages.unverified += 1,
                },
            }
        }
        let holds = in_parallel(&claims, |(signed, who)| match &who {
            Claim::Checked => true,
            Claim::Unchecked(who) => signed.verify(who).is_ok(),
        });
        for ((signed, _), holds) in claims.iter().zip(holds) {
            if holds {
                self.count(signed);
            } else {
                self.messages.unverified += 1;
            }
        }
    }

    /// Whose key must have signed a message. A status is checked at once: what follows is judged by its certificate.
    fn claim(&mut self, signed: &Signed, at: UnixMillis) -> Result<Claim, Unverified> {
        let who = self.speakers.who(signed, at)?;
        match signed.content {
            Content::Status { .. } => {
                signed.verify(&who)?;
                self.speakers.learn(&signed.header.from, signed.header.session, who);
                Ok(Claim::Checked)
            }
            Content::LastWill { .. } | Content::Overflow { .. } | Content::Other => Ok(Claim::Unchecked(who)),
        }
    }

    fn count(&mut self, signed: &Signed) {
        let from = &signed.header.from;
        let sessions = &mut self.sessions;
        match signed.header.seq {
            Some(seq) => {
                let session = sessions.entry((from.clone(), signed.header.session)).or_default();
                let new = session.logged.insert(seq);
                *(if new { &mut self.messages.verified } else { &mut self.messages.duplicates }) += 1;
            }
            None => self.messages.last_wills += 1,
        }
        match &signed.content {
            Content::Status { previous: Some(previous), .. } => {
                let before = sessions.entry((from.clone(), previous.session)).or_default();
                before.announced = before.announced.max(previous.seq);
            }
            Content::Overflow { of, from_seq, to_seq } => {
                sessions.entry((from.clone(), *of)).or_default().lost.insert_range(*from_seq, *to_seq);
            }
            Content::Status { previous: None, .. } | Content::LastWill { .. } | Content::Other => {}
        }
    }

    /// What was heard, with the gaps.
    pub fn finish(mut self) -> Messages {
        for ((device, session), known) in self.sessions {
            let mut settled = known.logged.clone();
            for (from_seq, to_seq) in known.lost.ranges() {
                settled.insert_range(from_seq, to_seq);
            }
            self.messages.sessions += u64::from(known.logged.count() > 0);
            *self.messages.by_sender.entry(device.clone()).or_default() += known.logged.count();
            self.messages.lost += settled.count() - known.logged.count();
            for (from_seq, to_seq) in settled.missing_through(settled.highest().max(known.announced)) {
                self.messages.missing = self.messages.missing.saturating_add(to_seq - from_seq + 1);
                self.messages.gaps.push(Gap { device: device.clone(), session, from_seq, to_seq });
            }
        }
        self.messages
    }
}

enum Claim {
    Checked,
    Unchecked(Arc<Vouched>),
}

fn find<'a>(entry: &'a Entry, notices: &str) -> Found<'a> {
    let Payload::Bytes(payload) = &entry.payload else { return Found::Unverified };
    if entry.topic == notices {
        return match Notice::read(payload) {
            Some(Notice::NotLogged(count)) => Found::NotLogged(count),
            Some(Notice::Certificate { .. } | Notice::Revoked(_)) | None => Found::Unverified,
        };
    }
    match hear(&entry.topic, payload) {
        Ok(Heard::Command(_)) => Found::Command,
        Ok(Heard::Revocations(topic)) => Found::Revocations(topic, payload),
        Ok(Heard::Signed(signed)) => Found::Claimed(signed, entry.received_ms),
        Err(_) => Found::Unverified,
    }
}

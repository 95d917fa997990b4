//! Whose messages the entries are: each judged by the certificates and revocations that stand before it, at the time when
//! it was received, and counted in its session.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use grid_protocol::topic::{Name, Topic};
use grid_protocol::units::UnixMillis;
use serde::Serialize;

use super::recall::hear_notice;
use super::sessions::{Explanation, Gap, Sessions};
use super::time::{Bracket, Brackets};
use super::{FailedEntry, Span};
use crate::entry::{Entry, Payload};
use crate::notice::Notice;
use crate::parallel::{cores, in_parallel};
use crate::show::date;
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
    /// Certificates and lists that the anchor repeats, since the originals may be dropped.
    pub repeated: u64,
    /// Entries that nobody vouches for.
    pub unverified: u64,
    /// The first of them.
    pub first_unverified: Option<Doubt>,
    /// Entries that are judged by a certificate that was revoked before them. They prove nothing either.
    pub revoked: u64,
    /// The first of them.
    pub first_revoked: Option<Doubt>,
    /// Entries that claim a time more than five minutes outside of what the ledger allows.
    pub outside_bracket: u64,
    /// The first of them.
    pub first_outside_bracket: Option<Doubt>,
    /// Messages that were counted instead of logged.
    pub not_logged: u64,
    /// Messages that stand later in the log than ones that were said after them.
    pub replayed_later: u64,
    /// Messages that their senders declared lost.
    pub lost: u64,
    /// Messages that may have been dropped by retention.
    pub dropped: u64,
    /// Messages that are missing without any of that.
    pub missing: u64,
    /// Where.
    pub gaps: Vec<Gap>,
}

/// An entry with a remark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doubt {
    /// Which.
    pub entry: FailedEntry,
    /// What about it.
    pub why: String,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "entry {}: {}", self.entry, self.why)
    }
}

/// Listens to the entries in order.
pub struct Judge {
    speakers: Speakers,
    sessions: Sessions,
    brackets: Brackets,
    reported: Span,
    messages: Messages,
}

enum Found<'a> {
    Command,
    /// A list of revoked certificates whose signature is still to be checked.
    Revocations(Topic, &'a [u8]),
    /// What the anchor says, still to be checked.
    Notice(Notice),
    /// A message whose signature is still to be checked.
    Claimed(Box<Signed<'a>>),
    Unverified(Cow<'static, str>),
}

/// An entry as it stands in the log.
#[derive(Clone, Copy)]
struct Place<'a> {
    index: u64,
    entry: &'a Entry<'a>,
    bracket: Bracket,
    is_reported: bool,
}

impl Place<'_> {
    fn doubt(&self, why: impl ToString) -> Doubt {
        let received_ms = Some(self.entry.received_ms);
        Doubt { entry: FailedEntry::new(self.index, received_ms, Some(&self.entry.topic)), why: why.to_string() }
    }

    fn received(&self) -> UnixMillis {
        self.bracket.clamp(self.entry.received_ms)
    }
}

impl Judge {
    /// Knows what `speakers` know. Tells of the messages that were received in a span of time.
    pub fn new(speakers: Speakers, brackets: Brackets, reported: Span, is_pruned: bool) -> Self {
        let (sessions, messages) = (Sessions::new(is_pruned), Messages::default());
        Self { speakers, sessions, brackets, reported, messages }
    }

    /// Hears a batch of entries, the first of which has this index.
    pub fn hear_all(&mut self, first: u64, bundles: &[Vec<Entry>]) {
        let notices = Notice::topic(self.speakers.site());
        let found = in_parallel(cores(), bundles, |entries| {
            entries.iter().map(|entry| find(entry, &notices)).collect::<Vec<_>>()
        });
        let mut claims = Vec::new();
        let entries = (first..).zip(bundles.iter().flatten());
        for ((index, entry), found) in entries.zip(found.into_iter().flatten()) {
            let is_reported = self.reported.contains(entry.received_ms);
            let place = Place { index, entry, bracket: self.brackets.of(index), is_reported };
            self.look_at_time(place);
            match found {
                Found::Command => self.messages.commands += u64::from(is_reported),
                Found::Revocations(topic, payload) => match self.speakers.check_revocations(&topic, payload) {
                    Ok(list) => {
                        self.speakers.revoke(&list);
                        self.messages.revocations += u64::from(is_reported);
                    }
                    Err(why) => self.doubt(place, &why),
                },
                Found::Notice(notice) => match (hear_notice(&mut self.speakers, &notice, place.received()), &notice) {
                    (Ok(()), Notice::NotLogged(count)) if is_reported => {
                        // Nobody signs this number: it can be any.
                        self.messages.not_logged = self.messages.not_logged.saturating_add(*count);
                    }
                    (Ok(()), Notice::NotLogged(_)) => {}
                    (Ok(()), _) => self.messages.repeated += u64::from(is_reported),
                    (Err(why), _) => self.doubt(place, &why),
                },
                Found::Unverified(why) => self.unverified(place, why),
                Found::Claimed(signed) => match self.claim(&signed, place.received()) {
                    Ok(who) => claims.push((place, signed, who)),
                    Err(why) => self.doubt(place, &why),
                },
            }
        }
        let holds = in_parallel(cores(), &claims, |(_, signed, who)| match &who {
            Claim::Checked => true,
            Claim::Unchecked(who) => signed.verify(who).is_ok(),
        });
        for ((place, signed, _), holds) in claims.iter().zip(holds) {
            if holds {
                self.count(signed, place.is_reported);
            } else {
                self.doubt(*place, &Unverified::Signature);
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

    fn doubt(&mut self, place: Place, why: &Unverified) {
        if !matches!(why, Unverified::Revoked { .. }) {
            return self.unverified(place, why);
        }
        if place.is_reported {
            self.messages.revoked += 1;
            keep_first(&mut self.messages.first_revoked, place.index, || place.doubt(why));
        }
    }

    fn unverified(&mut self, place: Place, why: impl ToString) {
        if place.is_reported {
            self.messages.unverified += 1;
            keep_first(&mut self.messages.first_unverified, place.index, || place.doubt(why));
        }
    }

    fn look_at_time(&mut self, place: Place) {
        if !place.is_reported || !place.bracket.excludes(place.entry.received_ms) {
            return;
        }
        self.messages.outside_bracket += 1;
        keep_first(&mut self.messages.first_outside_bracket, place.index, || {
            let limit = |at: Option<UnixMillis>, open: &str| at.map_or_else(|| open.to_owned(), date);
            let Bracket { from_ms, until_ms } = place.bracket;
            let (from, until) = (limit(from_ms, "the beginning"), limit(until_ms, "now"));
            place.doubt(format!("by the ledger it was received between {from} and {until}"))
        });
    }

    fn count(&mut self, signed: &Signed, is_reported: bool) {
        let from = &signed.header.from;
        match signed.header.seq {
            Some(seq) => {
                let is_new = self.sessions.log(from, signed.header.session, seq, is_reported);
                let counted = if is_new { &mut self.messages.verified } else { &mut self.messages.duplicates };
                *counted += u64::from(is_reported);
            }
            None => self.messages.last_wills += u64::from(is_reported),
        }
        match &signed.content {
            Content::Status { previous: Some(previous), .. } => {
                self.sessions.announce(from, previous.session, previous.seq, is_reported);
            }
            Content::Overflow { of, from_seq, to_seq } => {
                self.sessions.lose(from, *of, (*from_seq, *to_seq), is_reported);
            }
            Content::Status { previous: None, .. } | Content::LastWill { .. } | Content::Other => {}
        }
    }

    /// What was heard, with the gaps.
    pub fn finish(self) -> Messages {
        let summary = self.sessions.summary();
        let mut messages = self.messages;
        messages.sessions = summary.sessions;
        messages.by_sender = summary.by_sender;
        for gap in &summary.gaps {
            let count = match gap.explanation {
                Explanation::ReplayedLater => &mut messages.replayed_later,
                Explanation::DeclaredLost => &mut messages.lost,
                Explanation::Dropped => &mut messages.dropped,
                Explanation::Unexplained => &mut messages.missing,
            };
            *count = count.saturating_add(gap.count());
        }
        messages.gaps = summary.gaps;
        messages
    }
}

/// Keeps the doubt about the entry that stands first in the log: signatures are judged behind the rest of their batch.
fn keep_first(kept: &mut Option<Doubt>, index: u64, doubt: impl FnOnce() -> Doubt) {
    if kept.as_ref().is_none_or(|kept| index < kept.entry.index) {
        *kept = Some(doubt());
    }
}

enum Claim {
    Checked,
    Unchecked(Arc<Vouched>),
}

fn find<'a>(entry: &'a Entry, notices: &str) -> Found<'a> {
    let Payload::Bytes(payload) = &entry.payload else {
        return Found::Unverified("the log holds only its SHA-256".into());
    };
    if entry.topic == notices {
        return Notice::read(payload).map_or(Found::Unverified("it is no notice that we know".into()), Found::Notice);
    }
    match hear(&entry.topic, payload) {
        Ok(Heard::Command(_)) => Found::Command,
        Ok(Heard::Revocations(topic)) => Found::Revocations(topic, payload),
        Ok(Heard::Signed(signed)) => Found::Claimed(signed),
        Err(why) => Found::Unverified(why.to_string().into()),
    }
}

//! What of all that is said on the site goes into the log, and what is there already. No I/O, no clock.
//!
//! | what comes | what happens |
//! |---|---|
//! | a signed message that holds | logged, once for each (device, session, seq) for all time |
//! | a replay that holds | what is in it, judged as if it had come itself |
//! | a last will that holds | logged once |
//! | a command (`set/…`) | logged; a retained copy only if it is new |
//! | a list of revoked certificates that the authority signed | logged if it is new; what it names proves nothing from then on |
//! | anything else under `grid/{site}/` | logged as evidence, at most 1/s per topic and 10/s together; the rest is counted |
//!
//! A signed message whose sender's status is not known yet waits a moment for it, since a broker may deliver a device's
//! first measurement before its retained status.
//!
//! Messages come in batches ([`Intake::receive_all`]): each is read once, the signatures of a batch are checked together
//! ([`batch`]), and then each message is judged in its turn. A signature counts for the key under which it was checked;
//! if by then the sender has another certificate, since its status came in the same batch, it is checked again.

pub mod batch;
mod carried;
mod limit;
mod reading;
mod scarce;
mod sessions;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_protocol::identity::Serial;
use grid_protocol::message::{Ack, Event, Header, Role, Session};
use grid_protocol::revocation::{self, Revocations};
use grid_protocol::seal::Sealed;
use grid_protocol::topic::{Kind, Name};
use grid_protocol::units::{BootTime, Millis, UnixMillis};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::entry::{self, Payload};
use crate::journal::{Record, Standing};
use crate::notice::Notice;
use crate::speech::{Certificates, Content, Heard, Signed, Speakers, Unverified, Vouched, hear};
use batch::Checker;
use carried::Carried;
use limit::Limit;
use reading::{Envelope, Opened, Reading, Verdict, check_together, open};
use sessions::{SessionLog, Sessions};
pub use snapshot::BadSnapshot;

/// How long a message waits for its sender's status.
const PATIENCE: Millis = Millis(2000);
/// How many messages wait at most.
const MOST_WAITING: usize = 256;
/// Of how many topics the newest unverified message is remembered, so that its retained copy is known.
const MOST_REMEMBERED: usize = 1024;

/// Now, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Dates.
    pub unix: UnixMillis,
    /// Spans.
    pub boot: BootTime,
}

/// A message that came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// On which topic.
    pub topic: &'a str,
    /// What it says.
    pub payload: &'a [u8],
    /// Whether it is a copy that the broker kept.
    pub retained: bool,
}

/// An entry that goes into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Whether it occupies its place in its session.
    pub standing: Standing,
    /// The entry.
    pub entry: Vec<u8>,
    /// What it is worth to hurry for.
    pub urgency: Urgency,
}

/// How much an entry hurries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// As usual.
    Usual,
    /// It is to be durable at once.
    Durable,
    /// It is to be durable at once and soon on the ledger: an overload began, or a limit was changed.
    Notarized,
}

impl Urgency {
    /// Only what a transformer says hurries to the ledger, since each record costs.
    fn of(signed: &Signed, who: &Vouched) -> Self {
        if signed.topic.kind != Kind::Event {
            return Self::Usual;
        }
        if who.identity.role != Role::Transformer {
            return Self::Durable;
        }
        match signed.sealed().read() {
            Ok(Event::OverloadStarted { .. } | Event::LimitChanged { .. } | Event::DimmingChanged { .. }) => {
                Self::Notarized
            }
            // An event that we cannot read is an event all the same.
            Ok(_) | Err(_) => Self::Durable,
        }
    }
}

/// What the intake did since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Messages that were known already.
    pub duplicates: u64,
    /// Messages that were logged although nobody vouches for them.
    pub unverified: u64,
    /// Messages that were not logged, but counted.
    pub not_logged: u64,
}

/// The intake.
pub struct Intake {
    speakers: Speakers,
    sessions: Sessions,
    carried: Carried,
    limit: Limit,
    checker: Checker,
    /// SHA-256 of the newest unverified message or command per topic.
    remembered: HashMap<String, [u8; 32]>,
    waiting: Vec<Waiting>,
    counts: Counts,
}

struct Waiting {
    since: Now,
    topic: String,
    payload: Vec<u8>,
    retained: bool,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    devices: BTreeMap<Name, BTreeMap<Session, SessionLog>>,
    certificates: BTreeMap<Name, Certificates>,
    remembered: BTreeMap<String, String>,
    /// Older snapshots say nothing of it.
    #[serde(default)]
    revoked: BTreeSet<Serial>,
    carried: Option<Carried>,
}

impl Intake {
    /// Starts with nothing known.
    pub fn new(speakers: Speakers) -> Self {
        Self {
            speakers,
            sessions: Sessions::default(),
            carried: Carried::default(),
            limit: Limit::default(),
            checker: Checker::default(),
            remembered: HashMap::new(),
            waiting: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Starts with what a snapshot of a log of `tree_size` entries knows.
    pub fn restore(mut speakers: Speakers, bytes: &[u8], tree_size: u64, now: UnixMillis) -> Result<Self, BadSnapshot> {
        let snapshot: Snapshot = snapshot::read(bytes)?;
        speakers.restore(snapshot.certificates, now);
        speakers.restore_revoked(snapshot.revoked);
        let remembered = |(topic, text): (String, String)| Some((topic, STANDARD.decode(text).ok()?.try_into().ok()?));
        let mut remembered: HashMap<String, [u8; 32]> =
            snapshot.remembered.into_iter().filter_map(remembered).collect();
        if snapshot.carried.is_none() {
            // Its version did not keep the list itself: that is logged again when the broker says it again.
            remembered.remove(&revocation::topic(speakers.site()).to_string());
        }
        Ok(Self {
            sessions: Sessions::restore(snapshot.devices, tree_size),
            carried: snapshot.carried.unwrap_or_default(),
            remembered,
            ..Self::new(speakers)
        })
    }

    /// What is known, for [`Self::restore`].
    pub fn snapshot(&self) -> Vec<u8> {
        let remembered = self.remembered.iter().map(|(topic, digest)| (topic.clone(), STANDARD.encode(digest)));
        let snapshot = Snapshot {
            devices: self.sessions.devices().clone(),
            certificates: self.speakers.certificates(),
            remembered: remembered.collect(),
            revoked: self.speakers.revoked().clone(),
            carried: Some(self.carried.clone()),
        };
        snapshot::write(&snapshot)
    }

    /// Learns again what an entry taught that is in the journal but not in the snapshot. The journal is our own: what it
    /// says was verified is not checked again.
    pub fn relearn(&mut self, record: &Record) {
        self.relearn_entry(record);
        self.placed(record.index);
    }

    fn relearn_entry(&mut self, record: &Record) {
        let Ok(entry) = entry::read(&record.entry) else { return };
        let Payload::Bytes(payload) = &entry.payload else { return };
        if entry.topic == Notice::topic(self.speakers.site()) {
            return Notice::read(payload).map_or((), |notice| self.carried.heard(notice));
        }
        match (record.standing, hear(&entry.topic, payload)) {
            (Standing::Verified, Ok(Heard::Signed(signed))) => {
                let who = match &signed.content {
                    Content::Status { certificate, .. } => self.speakers.vouch(certificate, entry.received_ms).ok(),
                    Content::LastWill { .. } | Content::Overflow { .. } | Content::Other => None,
                };
                self.take(&signed, who.map(Arc::new));
            }
            (Standing::Verified | Standing::Unverified, heard) => {
                if let Ok(Heard::Revocations(topic)) = heard
                    && let Ok(list) = self.speakers.check_revocations(&topic, payload)
                {
                    self.speakers.revoke(&list);
                    self.carried.list(payload);
                }
                self.remember(&entry.topic, payload);
            }
        }
    }

    /// What was done since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a message in. What goes into the log is appended to `admitted`.
    pub fn receive(&mut self, arrival: Arrival, now: Now, admitted: &mut Vec<Admitted>) {
        self.receive_all(&[arrival], now, admitted);
    }

    /// Takes messages in, in their order. What goes into the log is appended to `admitted`.
    pub fn receive_all(&mut self, arrivals: &[Arrival], now: Now, admitted: &mut Vec<Admitted>) {
        let opened: Vec<Opened> = arrivals.iter().map(|arrival| open(*arrival)).collect();
        opened.iter().filter(|opened| matches!(opened, Opened::Broken)).for_each(|_| self.count_only(now));
        let mut read: Vec<Reading> = opened.iter().filter_map(Reading::of).collect();
        check_together(&mut read, &self.speakers, &mut self.checker, now.boot);
        for reading in read {
            if self.may_come(&reading, now) {
                self.judge(reading.arrival, reading.heard, reading.verdict, now, admitted);
            } else {
                self.count_only(now);
            }
        }
    }

    /// Who replays a message must be known; then it is judged for itself.
    fn may_come(&self, reading: &Reading, now: Now) -> bool {
        let Some(envelope) = reading.envelope else { return true };
        let Envelope { topic, header, .. } = envelope;
        // Before its first birth reaches us a sender is unknown; the birth that it replays names its key.
        let known = self.speakers.certificate_of(&header.from, header.session);
        let Some(who) = known.or_else(|| self.introduced(reading, now)) else { return false };
        let fits = topic.site == *self.speakers.site() && header.from == topic.device;
        fits && who.identity.name == header.from
            && self.speakers.check_not_revoked(&who).is_ok()
            && reading.envelope_holds(envelope, &who.identity.key)
    }

    /// The certificate in a replayed status.
    fn introduced(&self, reading: &Reading, now: Now) -> Option<Arc<Vouched>> {
        let Ok(Heard::Signed(signed)) = &reading.heard else { return None };
        let Content::Status { .. } = signed.content else { return None };
        let who = self.speakers.who(signed, now.unix).ok()?;
        signed.verify(&who).ok().map(|()| who)
    }

    fn judge(
        &mut self,
        arrival: Arrival,
        heard: Result<Heard, Unverified>,
        verdict: Option<Verdict>,
        now: Now,
        admitted: &mut Vec<Admitted>,
    ) {
        match heard.and_then(|heard| self.check(heard, arrival, verdict, now)) {
            Ok(Checked::Command) => self.admit_unnumbered(arrival, arrival.retained, now, admitted),
            Ok(Checked::Revocations(list)) => self.admit_revocations(&list, arrival, now, admitted),
            Ok(Checked::Said(signed, who)) => self.admit(&signed, who, arrival, now, admitted),
            Err(Unverified::Unknown(_)) if self.waiting.len() < MOST_WAITING => self.waiting.push(Waiting {
                since: now,
                topic: arrival.topic.to_owned(),
                payload: arrival.payload.to_vec(),
                retained: arrival.retained,
            }),
            Err(_) => self.admit_unverified(arrival, now, admitted),
        }
    }

    fn check<'a>(
        &self,
        heard: Heard<'a>,
        arrival: Arrival,
        verdict: Option<Verdict>,
        now: Now,
    ) -> Result<Checked<'a>, Unverified> {
        match heard {
            Heard::Command(topic) if topic.site == *self.speakers.site() => Ok(Checked::Command),
            Heard::Command(topic) => Err(Unverified::NotLogged(topic)),
            Heard::Revocations(topic) => {
                Ok(Checked::Revocations(self.speakers.check_revocations(&topic, arrival.payload)?))
            }
            Heard::Signed(signed) => {
                let who = self.speakers.who(&signed, now.unix)?;
                match verdict.and_then(|verdict| verdict.under(&who.identity.key)) {
                    Some(true) => {}
                    Some(false) => return Err(Unverified::Signature),
                    None => signed.verify(&who)?,
                }
                Ok(Checked::Said(signed, who))
            }
        }
    }

    fn admit(&mut self, signed: &Signed, who: Arc<Vouched>, arrival: Arrival, now: Now, admitted: &mut Vec<Admitted>) {
        let Header { from, session, seq, .. } = &signed.header;
        let known = match (&signed.content, seq) {
            (Content::LastWill { ends, .. }, _) => self.sessions.has_ended(from, *session, *ends),
            (_, Some(seq)) => self.sessions.has(from, *session, *seq),
            (_, None) => false,
        };
        if known {
            self.counts.duplicates += 1;
            // A copy that the broker kept says nothing about what the device has heard.
            if !arrival.retained {
                self.sessions.repeat(from, *session);
            }
            return;
        }
        self.name_if_dropped(signed, &who, now, admitted);
        admitted.push(Admitted {
            standing: Standing::Verified,
            entry: entry::write(now.unix, arrival.topic, arrival.payload),
            urgency: Urgency::of(signed, &who),
        });
        let is_status = matches!(signed.content, Content::Status { .. });
        self.take(signed, is_status.then_some(who));
        if is_status {
            self.hear_again(from, now, admitted);
        }
    }

    /// Takes note of a verified message that is in the log.
    fn take(&mut self, signed: &Signed, status: Option<Arc<Vouched>>) {
        let Header { from, session, seq, .. } = &signed.header;
        match &signed.content {
            Content::Status { previous, .. } => {
                if let Some(who) = status {
                    self.speakers.learn(from, *session, who);
                    self.named(from, *session);
                }
                if let Some(previous) = previous.filter(|previous| previous.session != *session) {
                    self.sessions.announce(from, previous.session, previous.seq);
                }
            }
            Content::LastWill { ends, .. } => self.sessions.end(from, *session, *ends),
            Content::Overflow { of, from_seq, to_seq } => self.sessions.lose(from, *of, *from_seq, *to_seq),
            Content::Other => {}
        }
        if let Some(seq) = seq {
            self.sessions.log(from, *session, *seq);
        }
    }

    /// A status came: what waited for it is judged again.
    fn hear_again(&mut self, name: &Name, now: Now, admitted: &mut Vec<Admitted>) {
        let (again, waiting): (Vec<Waiting>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|message: &Waiting| {
                let sealed = Sealed::parse(&message.payload).ok();
                sealed.and_then(|sealed| sealed.read::<Header>().ok()).is_some_and(|header| header.from == *name)
            });
        self.waiting = waiting;
        for Waiting { since, topic, payload, retained } in again {
            let received = Now { unix: since.unix, boot: now.boot };
            let arrival = Arrival { topic: &topic, payload: &payload, retained };
            self.judge(arrival, hear(&topic, &payload), None, received, admitted);
        }
    }

    /// The broker says the same list again at each start, and need not be believed about what is retained.
    fn admit_revocations(&mut self, list: &Revocations, arrival: Arrival, now: Now, admitted: &mut Vec<Admitted>) {
        if self.carried.knows(arrival.payload) {
            self.counts.duplicates += 1;
            return;
        }
        self.carried.list(arrival.payload);
        self.speakers.revoke(list);
        self.admit_unnumbered(arrival, false, now, admitted);
    }

    /// What has no place in a session of its device. What may be a copy is logged only if it is new.
    fn admit_unnumbered(&mut self, arrival: Arrival, may_be_copy: bool, now: Now, admitted: &mut Vec<Admitted>) {
        if may_be_copy && self.remembers(arrival) {
            self.counts.duplicates += 1;
            return;
        }
        self.remember(arrival.topic, arrival.payload);
        let entry = entry::write(now.unix, arrival.topic, arrival.payload);
        admitted.push(Admitted { standing: Standing::Unverified, entry, urgency: Urgency::Usual });
    }

    fn admit_unverified(&mut self, arrival: Arrival, now: Now, admitted: &mut Vec<Admitted>) {
        if arrival.retained && self.remembers(arrival) {
            self.counts.duplicates += 1;
            return;
        }
        if !self.limit.allows(arrival.topic, now.boot) {
            self.counts.not_logged += 1;
            return;
        }
        self.remember(arrival.topic, arrival.payload);
        self.counts.unverified += 1;
        let entry = entry::write(now.unix, arrival.topic, arrival.payload);
        admitted.push(Admitted { standing: Standing::Unverified, entry, urgency: Urgency::Usual });
    }

    fn count_only(&mut self, now: Now) {
        self.limit.refuse(now.boot);
        self.counts.not_logged += 1;
    }

    fn remembers(&self, arrival: Arrival) -> bool {
        self.remembered.get(arrival.topic).is_some_and(|digest| *digest == Sha256::digest(arrival.payload)[..])
    }

    fn remember(&mut self, topic: &str, payload: &[u8]) {
        if self.remembered.len() >= MOST_REMEMBERED && !self.remembered.contains_key(topic) {
            // Forgetting costs at worst one more entry for one retained message at one reconnect.
            self.remembered.clear();
        }
        self.remembered.insert(topic.to_owned(), Sha256::digest(payload).into());
    }

    /// Time has passed: gives up waiting, and reports what was not logged.
    pub fn tick(&mut self, now: Now, admitted: &mut Vec<Admitted>) {
        let (given_up, waiting): (Vec<Waiting>, _) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|message: &Waiting| now.boot.since(message.since.boot) >= PATIENCE);
        self.waiting = waiting;
        for Waiting { since, topic, payload, retained } in given_up {
            let received = Now { unix: since.unix, boot: now.boot };
            self.admit_unverified(Arrival { topic: &topic, payload: &payload, retained }, received, admitted);
        }
        if let Some(count) = self.limit.report(now.boot) {
            admitted.push(self.notice(&Notice::NotLogged(count), now));
        }
    }

    /// Says how many were not logged, if any, without waiting until a minute is over.
    pub fn say_not_logged(&mut self, now: Now, admitted: &mut Vec<Admitted>) {
        if let Some(count) = self.limit.report_now() {
            admitted.push(self.notice(&Notice::NotLogged(count), now));
        }
    }

    /// Everything admitted so far is durable, in a log of `tree_size` entries.
    pub fn durable(&mut self, tree_size: u64) {
        self.sessions.durable(tree_size);
    }

    /// The acknowledgements that are to go out now.
    pub fn acks(&mut self, now: BootTime) -> Vec<(Name, Ack)> {
        self.sessions.acks(now)
    }
}

enum Checked<'a> {
    Command,
    Revocations(Revocations),
    Said(Box<Signed<'a>>, Arc<Vouched>),
}

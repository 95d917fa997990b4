//! Intake and store together: what comes goes into the log, what is durable is acknowledged, and from time to time all
//! of it goes under a checkpoint.
//!
//! The recorder has no clock and no network. It is told what comes and what time it is, and returns what is to be
//! published. What the anchor itself says is logged and durable before it is published.

mod error;
mod ledger;
mod notarize;
mod retain;
mod room;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use grid_ledger::NewRecord;
use grid_protocol::author::{Author, Signed};
use grid_protocol::identity::Authority;
use grid_protocol::message::{Checkpoint, LedgerReceipt, Part, Presence, Role, Session, Status};
use grid_protocol::topic::{Kind, Name};
use grid_protocol::units::{BootTime, Millis, UnixMillis};
use grid_service::link::{Delivery, Will};
use serde::Serialize;

use crate::checkpoint::Head;
use crate::intake::{Admitted, Arrival, Counts, Intake, Now, Urgency};
use crate::policy::Policy;
use crate::retention::{Retention, RetentionSettings};
use crate::speech::Speakers;
use crate::store::{Store, read_or_make_key};
pub use error::RecorderError;
use grid_durable::{Durable, DurableError, Stop};
use ledger::LedgerWatch;
use room::Room;

pub use ledger::FEW_DAYS;
pub use room::enough_bytes;

/// A checkpoint is written early when the journal has grown by this many entries, so that none takes much longer than
/// half a second.
const MOST_UNCOVERED: u64 = 16_384;
/// The policy's file.
pub const POLICY: &str = "site.policy";

/// Who the anchor is.
#[derive(Clone)]
pub struct AnchorIdentity {
    /// Signs its messages.
    pub message_key: SigningKey,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The site's authority.
    pub authority: Authority,
}

/// How the recorder is to work.
#[derive(Clone, Debug)]
pub struct RecorderSettings {
    /// The site.
    pub site: Name,
    /// The anchor's name.
    pub name: Name,
    /// How long a message may wait until it is durable.
    pub commit: Millis,
    /// How long an entry may wait until it is under a checkpoint.
    pub checkpoint: Millis,
    /// How much room must be left on the disk, in units of 10^6 bytes.
    pub min_free_mb: u64,
    /// The log's origin; by default made from site and log key.
    pub origin: Option<String>,
    /// How long entries are kept.
    pub retention: RetentionSettings,
}

/// Something to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// How.
    pub delivery: Delivery,
}

/// How far the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// How many entries it has.
    pub entries: u64,
    /// How many of them are durable.
    pub durable: u64,
    /// How many of them are under a checkpoint.
    pub checkpoint_size: u64,
    /// When entries were made durable last.
    pub synced_ms: UnixMillis,
    /// What the intake did since the start.
    pub counts: Counts,
}

/// The recorder.
pub struct Recorder {
    settings: RecorderSettings,
    policy: Policy,
    store: Store,
    intake: Intake,
    retention: Retention,
    author: Author,
    certificate: String,
    admitted: Vec<Admitted>,
    /// When the oldest entry was appended that is not durable.
    unsynced_since: Option<BootTime>,
    synced: UnixMillis,
    /// What the entries that are not durable hurry for.
    urgency: Urgency,
    last_checkpoint: BootTime,
    /// Whether anything but our own checkpoint messages came since the last checkpoint.
    fresh: bool,
    room: Room,
    /// The broker is to say again what it keeps.
    wants_retained: bool,
    connected: bool,
    newest: Option<(Head, Vec<u8>)>,
    /// Whether anything but our own checkpoint messages came since the last record for the ledger.
    fresh_for_ledger: bool,
    /// The size that the newest record on the ledger vouches for.
    notarized: u64,
    receipt: Option<LedgerReceipt>,
    ledger: LedgerWatch,
    /// A record is to be on the ledger soon.
    wants_record: bool,
}

impl Recorder {
    /// Opens the log in `data_dir`, or starts one. `session` is this run of the anchor: 64 random bits.
    pub fn open(
        data_dir: &Path,
        settings: RecorderSettings,
        identity: AnchorIdentity,
        session: Session,
        stop: Stop,
        now: Now,
    ) -> Result<Self, RecorderError> {
        Self::open_in(|| Durable::open(data_dir, stop), settings, identity, session, now)
    }

    /// The same with the folder that `open` gives.
    pub fn open_in(
        open: impl FnOnce() -> Result<Durable, DurableError>,
        settings: RecorderSettings,
        identity: AnchorIdentity,
        session: Session,
        now: Now,
    ) -> Result<Self, RecorderError> {
        let speakers = Speakers::new(settings.site.clone(), identity.authority.clone());
        check_identity(&speakers, &settings, &identity, now)?;
        let mut durable = open()?;
        let key = read_or_make_key(&mut durable, &settings.site, settings.origin.as_deref())?;
        let policy = Policy {
            site: settings.site.clone(),
            log: key.public().clone(),
            authority: identity.authority,
            trail: None,
        };
        keep_policy(&mut durable, &policy)?;
        let (store, snapshot) = Store::open(durable, key)?;
        let from = snapshot.as_ref().map_or(0, |snapshot| snapshot.size);
        let mut intake = match &snapshot {
            Some(snapshot) => Intake::restore(speakers, &snapshot.bytes, snapshot.size, now.unix)?,
            None => Intake::new(speakers),
        };
        store.replay(from, |record| intake.relearn(&record))?;
        intake.durable(store.durable_size());
        let fresh = store.size() > store.checkpoint_size();
        let room = Room::new(settings.min_free_mb);
        let author = Author::new(settings.site.clone(), settings.name.clone(), session, identity.message_key);
        let mut recorder = Self {
            retention: Retention::new(settings.retention, now),
            ledger: LedgerWatch::new(settings.retention.ledger.then_some(now.boot)),
            wants_record: false,
            settings,
            policy,
            store,
            intake,
            author,
            certificate: STANDARD.encode(identity.certificate),
            admitted: Vec::new(),
            unsynced_since: None,
            synced: now.unix,
            urgency: Urgency::Usual,
            last_checkpoint: now.boot,
            fresh,
            room,
            wants_retained: false,
            connected: false,
            newest: None,
            fresh_for_ledger: true,
            notarized: 0,
            receipt: None,
        };
        recorder.resume_dropping(from)?;
        Ok(recorder)
    }

    /// How far the log is.
    pub fn progress(&self) -> Progress {
        Progress {
            entries: self.store.size(),
            durable: self.store.durable_size(),
            checkpoint_size: self.store.checkpoint_size(),
            synced_ms: self.synced,
            counts: self.intake.counts(),
        }
    }

    /// The log's public key, as a vkey.
    pub fn vkey(&self) -> &str {
        self.store.key().public().vkey()
    }

    /// The disk was full since then: what comes is taken in once there is room enough.
    pub fn was_full(&mut self, since: BootTime) {
        self.room = Room::full(self.settings.min_free_mb, since);
    }

    /// Takes in a message from the broker. If there is too little room for it, [`Intake::receive_scarcely`] says what
    /// becomes of it.
    pub fn receive(&mut self, arrival: Arrival, now: Now) -> Result<(), RecorderError> {
        self.receive_all(&[arrival], now)
    }

    /// Takes in messages from the broker, in their order. Together they cost much less than one by one.
    pub fn receive_all(&mut self, arrivals: &[Arrival], now: Now) -> Result<(), RecorderError> {
        if self.room.is_low() {
            self.intake.receive_scarcely(arrivals, now, &mut self.admitted);
        } else {
            self.intake.receive_all(arrivals, now, &mut self.admitted);
        }
        self.append(true, now)
    }

    fn append(&mut self, fresh: bool, now: Now) -> Result<(), RecorderError> {
        let first = self.store.size();
        for admitted in self.admitted.drain(..) {
            self.fresh |= fresh;
            self.fresh_for_ledger |= fresh;
            self.urgency = self.urgency.max(admitted.urgency);
            self.unsynced_since.get_or_insert(now.boot);
            self.store.append(admitted.standing, admitted.entry)?;
        }
        self.intake.placed(first);
        Ok(())
    }

    /// To be called after each batch of messages, and often enough for the times in the settings: syncs, writes
    /// checkpoints, and returns what is to be published.
    pub fn settle(&mut self, now: Now) -> Result<Vec<Outgoing>, RecorderError> {
        if !self.room.is_low() {
            self.intake.tick(now, &mut self.admitted);
        }
        self.append(true, now)?;
        if self.urgency > Urgency::Usual
            || self.unsynced_since.is_some_and(|since| now.boot.since(since) >= self.settings.commit)
        {
            self.sync(now)?;
        }
        let mut outgoing = self.look_for_room(now)?;
        let uncovered = self.store.size() - self.store.checkpoint_size();
        let due = self.fresh && now.boot.since(self.last_checkpoint) >= self.settings.checkpoint;
        if due || uncovered >= MOST_UNCOVERED {
            self.write_checkpoint(now)?;
            outgoing.extend(self.announce(now)?);
        }
        outgoing.extend(self.retain(now)?);
        if !self.connected {
            return Ok(outgoing);
        }
        for event in self.ledger.events(now.boot) {
            let signed = self.author.say(Kind::Event, event, now.unix)?;
            outgoing.push(self.log_own(signed, Delivery::Assured, now)?);
        }
        for (device, ack) in self.intake.acks(now.boot) {
            // We know what we said ourselves.
            if device != self.settings.name {
                let signed = self.author.say_unnumbered(&device, Kind::Ack, ack, now.unix)?;
                outgoing.push(to_publish(signed, Delivery::Once));
            }
        }
        Ok(outgoing)
    }

    /// Says when there begins to be too little room on the disk, with everything so far under a checkpoint, and when there
    /// is enough again, and how many messages were lost meanwhile. While nobody is connected nothing comes, and a last
    /// will allows us to say nothing.
    fn look_for_room(&mut self, now: Now) -> Result<Vec<Outgoing>, RecorderError> {
        if !self.connected || !self.room.is_due(now.boot) {
            return Ok(Vec::new());
        }
        let Some(event) = self.room.look(self.store.free_bytes()?, now.boot) else { return Ok(Vec::new()) };
        let signed = self.author.say(Kind::Event, event, now.unix)?;
        let said = self.log_own(signed, Delivery::Assured, now)?;
        if !self.room.is_low() {
            self.intake.say_not_logged(now, &mut self.admitted);
            self.append(true, now)?;
            self.wants_retained = true;
            return Ok(vec![said]);
        }
        self.write_checkpoint(now)?;
        Ok(std::iter::once(said).chain(self.announce(now)?).collect())
    }

    fn sync(&mut self, now: Now) -> Result<(), RecorderError> {
        self.store.sync()?;
        self.wants_record |= self.urgency == Urgency::Notarized;
        self.urgency = Urgency::Usual;
        self.unsynced_since = None;
        self.synced = now.unix;
        self.intake.durable(self.store.durable_size());
        Ok(())
    }

    fn write_checkpoint(&mut self, now: Now) -> Result<(), RecorderError> {
        self.sync(now)?;
        self.newest = Some(self.store.checkpoint(&self.intake.snapshot())?);
        self.last_checkpoint = now.boot;
        self.fresh = false;
        Ok(())
    }

    /// Says the newest checkpoint, if there is somebody to say it to.
    fn announce(&mut self, now: Now) -> Result<Option<Outgoing>, RecorderError> {
        let Some((head, note)) = self.newest.clone().filter(|_| self.connected) else { return Ok(None) };
        let body = Checkpoint {
            origin: head.origin,
            tree_size: head.size,
            root_hash: head.root.to_string(),
            note: String::from_utf8_lossy(&note).into_owned(),
            receipt: self.receipt.clone(),
            purse: self.ledger.purse(),
        };
        let signed = self.author.say(Kind::Checkpoint, body, now.unix)?;
        self.log_own(signed, Delivery::AssuredRetained, now).map(Some)
    }

    /// Logs what we say before anybody else hears it. It is not what makes a new checkpoint worth while.
    fn log_own(&mut self, signed: Signed, delivery: Delivery, now: Now) -> Result<Outgoing, RecorderError> {
        let outgoing = to_publish(signed, delivery);
        let arrival = Arrival { topic: &outgoing.topic, payload: &outgoing.payload, retained: false };
        self.intake.receive(arrival, now, &mut self.admitted);
        self.append(false, now)?;
        self.sync(now)?;
        Ok(outgoing)
    }

    fn status(&self, state: Presence, ends: Option<u64>) -> Status {
        Status {
            state,
            part: Part::Anchor {},
            software: concat!("grid-anchor ", env!("CARGO_PKG_VERSION")).to_owned(),
            time_factor: 1,
            plant_time_ms: None,
            ends,
            previous: None,
            certificate: self.certificate.clone(),
        }
    }

    /// A connection is about to be attempted: the last will for it. It ends the birth that [`Self::connected`] returns;
    /// between the two we say nothing.
    pub fn will(&mut self, now: Now) -> Result<Will, RecorderError> {
        self.connected = false;
        let status = self.status(Presence::Offline, Some(self.author.last_seq() + 1));
        let name = self.settings.name.clone();
        let signed = self.author.say_unnumbered(&name, Kind::Status, status, now.unix)?;
        Ok(Will { topic: signed.topic.to_string(), payload: signed.payload })
    }

    /// The connection stands: our birth, and the newest checkpoint.
    pub fn connected(&mut self, now: Now) -> Result<Vec<Outgoing>, RecorderError> {
        self.connected = true;
        self.room.look_again();
        let signed = self.author.say(Kind::Status, self.status(Presence::Online, None), now.unix)?;
        let mut said = vec![self.log_own(signed, Delivery::AssuredRetained, now)?];
        said.extend(self.announce(now)?);
        // Not later: what the broker keeps comes next.
        said.extend(self.look_for_room(now)?);
        self.wants_retained = false;
        Ok(said)
    }

    /// Whether the broker is to say again what it keeps, since not all of it could be taken in.
    pub fn wants_retained(&mut self) -> bool {
        std::mem::take(&mut self.wants_retained)
    }

    /// Whether something has happened that is to be on the ledger soon. It is durable.
    pub fn wants_record(&mut self) -> bool {
        std::mem::take(&mut self.wants_record)
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        self.connected = false;
    }

    /// The end: the goodbye is logged, and everything goes under a last checkpoint. Returns the goodbye, and what is due
    /// for the ledger.
    pub fn finish(&mut self, now: Now) -> Result<(Outgoing, Option<NewRecord>), RecorderError> {
        self.intake.say_not_logged(now, &mut self.admitted);
        self.append(true, now)?;
        let signed = self.author.say(Kind::Status, self.status(Presence::Offline, None), now.unix)?;
        let goodbye = self.log_own(signed, Delivery::AssuredRetained, now)?;
        self.write_checkpoint(now)?;
        self.fresh_for_ledger = true;
        Ok((goodbye, self.record_for_ledger(now)?))
    }
}

fn to_publish(signed: Signed, delivery: Delivery) -> Outgoing {
    Outgoing { topic: signed.topic.to_string(), payload: signed.payload, delivery }
}

fn check_identity(
    speakers: &Speakers,
    settings: &RecorderSettings,
    identity: &AnchorIdentity,
    now: Now,
) -> Result<(), RecorderError> {
    let found = speakers.vouch(&identity.certificate, now.unix)?.identity;
    let mut ours = found.clone();
    ours.name = settings.name.clone();
    ours.role = Role::Anchor;
    ours.key = identity.message_key.verifying_key();
    if found != ours {
        return Err(RecorderError::OtherIdentity { found: found.to_uri(), ours: ours.to_uri() });
    }
    Ok(())
}

/// Writes `site.policy` at the first start; later it must be for the same site, log and authority.
pub fn keep_policy(durable: &mut Durable, ours: &Policy) -> Result<(), RecorderError> {
    let Some(bytes) = durable.read(POLICY)? else {
        durable.place(POLICY, ours.to_string().as_bytes())?;
        return Ok(durable.settle()?);
    };
    let found = Policy::read(&String::from_utf8_lossy(&bytes))?;
    if found.same_log(ours) {
        return Ok(());
    }
    let (found, ours) = (found.to_string(), ours.to_string());
    let differs = found.lines().zip(ours.lines()).find(|(found, ours)| found != ours).unwrap_or_default();
    Err(RecorderError::OtherPolicy { found: differs.0.to_owned(), ours: differs.1.to_owned() })
}

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod tests;

//! The core: what waits, what is settled, what is lost.

use grid_protocol::author::Signed;
use grid_protocol::message::{Ack, PreviousSession, Session};
use grid_protocol::sequence::Sequence;
use grid_protocol::units::{BootTime, Millis, UnixMillis};

use super::disk::Disk;
use super::losses::{Losses, Lost};
use super::memory::Memory;
use super::message::{Message, Shared, Worth};
use super::rounds::{Rounds, Turn};
use super::sessions::Sessions;
use super::shelf::Shelf;

/// A message that an ack names as missing is said again at most this often: the anchor needs time to write.
pub(super) const MISSING_AGAIN: Millis = Millis(2000);
/// Setpoints, events and statuses are given up in memory only when it holds so many times what it should: the disk takes
/// them sooner, if it works.
pub const ROOM_FOR_CONTROL: usize = 8;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In memory.
    pub memory_bytes: usize,
    /// On disk. `None`: there is no disk.
    pub disk_bytes: Option<u64>,
}

/// Something about the disk that people should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskEvent {
    /// It does not take what should be written.
    Failed(String),
    /// It works again.
    Recovered,
}

/// What waits for the anchor's acknowledgement.
pub struct Outbox {
    pub(super) bounds: Bounds,
    pub(super) sessions: Sessions,
    pub(super) memory: Memory,
    pub(super) losses: Losses,
    pub(super) disk: Option<Disk>,
    /// Messages that were said again since the start.
    pub(super) replayed: u64,
    /// Messages that were lost since the start.
    pub(super) lost: u64,
    /// The most that any of them was worth.
    pub(super) worst_lost: Option<Worth>,
    /// The same since somebody was told last.
    untold: Option<Worth>,
    rounds: Rounds,
}

impl Outbox {
    /// An outbox that goes on from what its folder has, once that is opened.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            sessions: Sessions::default(),
            memory: Memory::default(),
            losses: Losses::default(),
            disk: bounds.disk_bytes.map(Disk::new),
            replayed: 0,
            lost: 0,
            worst_lost: None,
            untold: None,
            rounds: Rounds::default(),
        }
    }

    /// A session begins, and those before it are over.
    pub fn begin(&mut self, session: Session) {
        self.sessions.begin(session);
        self.forget_sessions();
        if let Some(disk) = &mut self.disk {
            disk.must_save = true;
        }
    }

    /// The session before the current, for the birth.
    pub fn previous(&self) -> Option<PreviousSession> {
        self.sessions.previous()
    }

    /// How many messages wait.
    pub fn len(&self) -> u64 {
        self.memory.len() as u64 + self.disk.as_ref().map_or(0, |disk| disk.shelf.waiting())
    }

    /// How many of them wait in memory.
    pub fn in_memory(&self) -> usize {
        self.memory.len()
    }

    /// Whether everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps a numbered message until it is acknowledged. What has to go for it is for [`Outbox::losses`] to tell.
    pub fn keep(&mut self, session: Session, signed: &Signed, now: BootTime, said_at: UnixMillis) {
        let Some(seq) = signed.seq else { return };
        if let Some(known) = self.sessions.get_mut(session) {
            known.last_seq = known.last_seq.max(seq);
        }
        let (topic, payload) = (signed.topic.clone(), signed.payload.clone());
        self.memory.keep(Message { session, seq, said_at, topic, payload }, now);
        self.give_up(now);
    }

    /// Makes memory fit.
    fn give_up(&mut self, now: BootTime) {
        let room = self.bounds.memory_bytes;
        for worth in [Worth::Measurement, Worth::Setpoint, Worth::Lasting] {
            let most = if worth == Worth::Measurement { room } else { room.saturating_mul(ROOM_FOR_CONTROL) };
            while self.memory.bytes() > most {
                let Some(message) = self.memory.give_up(worth) else { break };
                let mut lost = Sequence::default();
                lost.insert(message.seq);
                self.given_up(worth);
                self.lose(message.session, &lost, now);
            }
        }
    }

    /// There was no room even for this.
    pub(super) fn given_up(&mut self, worth: Worth) {
        self.worst_lost = self.worst_lost.max(Some(worth));
        self.untold = self.untold.max(Some(worth));
    }

    /// The most that anything given up since the last call was worth.
    pub fn take_given_up(&mut self) -> Option<Worth> {
        self.untold.take()
    }

    /// These messages of a session are no longer where they should be: they are lost, unless they are elsewhere.
    pub(super) fn lose_unless_elsewhere(&mut self, session: Session, gone: &Sequence, now: BootTime) {
        let on_disk = self.disk.as_ref().map(|disk| disk.shelf.of(session)).unwrap_or_default();
        self.lose(session, &gone.without(&on_disk).without(&self.memory.of(session)), now);
    }

    /// These messages are lost for the log, unless they are acknowledged.
    pub(super) fn lose(&mut self, session: Session, lost: &Sequence, now: BootTime) {
        let Some(known) = self.sessions.get(session) else { return };
        let lost = &lost.without(&known.settled);
        if lost.is_empty() {
            return;
        }
        self.lost += lost.count();
        self.losses.lose(session, lost);
        self.settle(session, lost, now);
        if let Some(disk) = &mut self.disk {
            disk.save_soon(now, super::disk::LOSSES_SAVED_WITHIN);
        }
    }

    /// These messages are acknowledged or lost.
    pub(super) fn settle(&mut self, session: Session, settled: &Sequence, now: BootTime) {
        let Some(known) = self.sessions.get_mut(session) else { return };
        known.settled.insert_all(settled);
        if let Some(disk) = &mut self.disk
            && disk.shelf.recount(session, &self.sessions)
        {
            disk.save_soon(now, super::disk::ACKS_SAVED_WITHIN);
        }
    }

    /// What is lost and not declared, as long as fewer than `most` declarations wait. Each range is to be declared in an
    /// event, and then given to [`Outbox::declared`].
    pub fn losses(&self, most: usize) -> Vec<Lost> {
        self.losses.undeclared(most)
    }

    /// This message declares the loss.
    pub fn declared(&mut self, lost: Lost, session: Session, seq: u64) {
        self.losses.declared(lost, (session, seq));
    }

    /// Takes a verified ack: what it covers is settled, what it misses is due. What it misses of an older session and is
    /// not here, was in memory when this agent was killed: it is lost.
    pub fn acknowledged(&mut self, ack: &Ack, now: BootTime) {
        let is_current = self.sessions.is_current(ack.of);
        let Some(known) = self.sessions.get_mut(ack.of) else { return };
        // Nobody can have what was not said.
        let through = if is_current { ack.through.min(known.last_seq) } else { ack.through };
        let mut covered = Sequence::default();
        covered.insert_range(1, through);
        let mut missing = Sequence::default();
        ack.missing.iter().for_each(|(first, last)| missing.insert_range(*first, (*last).min(through)));
        let acknowledged = covered.without(&missing);
        known.missing = missing;
        if !is_current {
            known.last_seq = known.last_seq.max(through);
        }
        if !acknowledged.without(&known.settled).is_empty() {
            self.rounds.heard();
        }
        if self.losses.acknowledged(ack.of, &acknowledged)
            && let Some(disk) = &mut self.disk
        {
            disk.save_soon(now, super::disk::ACKS_SAVED_WITHIN);
        }
        self.settle(ack.of, &acknowledged, now);
        if let Some(known) = self.sessions.get(ack.of) {
            self.memory.acknowledged(ack.of, through, &known.settled, &known.missing);
        }
        self.lose_what_is_not_here(ack.of, now);
        self.forget_sessions();
    }

    /// What the anchor misses of a session that is over, and nobody has.
    pub(super) fn lose_what_is_not_here(&mut self, session: Session, now: BootTime) {
        // What the disk has is not known before it is opened.
        let is_known = self.disk.as_ref().is_none_or(|disk| disk.was_opened);
        let Some(known) = self.sessions.get(session).filter(|_| is_known && !self.sessions.is_current(session)) else {
            return;
        };
        let missing = known.missing.without(&known.settled);
        self.lose_unless_elsewhere(session, &missing, now);
    }

    /// The anchor has just begun: whatever it did not hear before, it may hear now.
    pub fn anchor_began(&mut self) {
        self.rounds.heard();
    }

    /// Sessions of which nothing waits need no memory.
    pub(super) fn forget_sessions(&mut self) {
        let shelf = match &self.disk {
            Some(disk) if disk.was_opened => Some(&disk.shelf),
            Some(_) => return,
            None => None,
        };
        let waits_on = |shelf: &Shelf, session| {
            let waits = |held: &Sequence| {
                self.sessions.get(session).is_some_and(|known| !held.without(&known.settled).is_empty())
            };
            shelf.segments().any(|segment| segment.holds.get(&session).is_some_and(waits))
        };
        let is_needed = |session: &Session| {
            self.memory.holds(*session)
                || self.losses.are_of(*session)
                || shelf.is_some_and(|shelf| waits_on(shelf, *session))
        };
        let over: Vec<Session> = self.sessions.over().filter(|session| !is_needed(session)).collect();
        over.into_iter().for_each(|session| self.sessions.forget(session));
    }

    /// The messages to be said again now, at most `most`: those that are missing, and those that were said last longer
    /// than `patience` ago. While nothing is acknowledged, they are fewer and later.
    pub fn due(&mut self, now: BootTime, patience: Millis, most: usize) -> Vec<Shared> {
        if self.is_empty() {
            // What comes next has not been said in vain yet.
            self.rounds.heard();
        }
        let turn = self.rounds.turn(now, patience);
        let turn = Turn { most: turn.most.min(most), ..turn };
        let mut due = self.memory.due(now, turn);
        if let Some(disk) = &mut self.disk {
            due.extend(disk.due(&self.sessions, now, Turn { most: turn.most - due.len(), ..turn }));
        }
        self.rounds.said(due.len());
        self.replayed += due.len() as u64;
        due
    }
}

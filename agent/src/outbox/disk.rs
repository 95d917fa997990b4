//! What the outbox wants done with its disk, and when.

use std::collections::VecDeque;
use std::sync::Arc;

use grid_protocol::units::{BootTime, Millis};

use super::job::{Job, Outcome};
use super::keeping::{DiskEvent, Outbox};
use super::message::{Shared, Worth};
use super::record;
use super::rounds::Turn;
use super::sessions::Sessions;
use super::shelf::{Contents, Place, Room, Segment, Shelf};
use super::state::State;

/// What is unacknowledged for so long goes to disk.
const TO_DISK_AFTER: Millis = Millis(30_000);
/// As long as memory has room, the disk is written to at most this often.
const WRITE_EVERY: Millis = Millis(5_000);
/// So much is written at once.
const WRITTEN_AT_ONCE: u64 = 256 * 1024;
/// So much is read at once, when fewer than this many messages wait to be said again.
const READ_AT_ONCE: usize = 32 * 1024;
const READ_BELOW: usize = 20;
/// A disk that failed is tried again after this.
const TRY_AGAIN: Millis = Millis(30_000);
/// What was acknowledged is kept this soon: it is only work that a restart need not do again.
pub(super) const ACKS_SAVED_WITHIN: Millis = Millis(60_000);
/// What was lost is kept this soon.
pub(super) const LOSSES_SAVED_WITHIN: Millis = Millis(5_000);
/// Segments have at most this size.
const LARGEST_SEGMENT: u64 = 4 * 1024 * 1024;
/// There are at least so many.
const SEGMENTS: u64 = 64;
/// A segment takes at least the longest message a few times.
const SMALLEST_SEGMENT: u64 = 64 * 1024;

/// What the disk is doing.
enum Phase {
    /// It is not open, and is to be opened from then on.
    Closed(BootTime),
    /// Nothing.
    Idle,
    /// This.
    Busy(Doing),
}

enum Doing {
    Opening,
    Saving,
    Writing(Place, Vec<Shared>),
    Clearing(u32, Worth),
    Reading,
}

/// One reading of what waits in a segment, piece by piece.
struct Pass {
    number: u32,
    generation: u64,
    at: u64,
    until: u64,
    wanted: Arc<Contents>,
    found: Contents,
}

/// The disk, as the core sees it.
pub(super) struct Disk {
    phase: Phase,
    pub shelf: Shelf,
    /// The folder was open once, so that its content is known.
    pub was_opened: bool,
    /// The state has to be kept before anything else is written.
    pub must_save: bool,
    save_by: Option<BootTime>,
    written_at: Option<BootTime>,
    /// Everything is to be written: the agent ends.
    closing: bool,
    pass: Option<Pass>,
    loaded: VecDeque<Shared>,
    /// Why it does not work, if it does not.
    pub trouble: Option<String>,
    events: Vec<DiskEvent>,
}

impl Disk {
    pub fn new(bytes: u64) -> Self {
        let segment = (bytes / SEGMENTS).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
        let most = u32::try_from(bytes / segment).unwrap_or(u32::MAX).max(2);
        Self {
            phase: Phase::Closed(BootTime(0)),
            shelf: Shelf::new(most, segment),
            was_opened: false,
            must_save: true,
            save_by: None,
            written_at: None,
            closing: false,
            pass: None,
            loaded: VecDeque::new(),
            trouble: None,
            events: Vec::new(),
        }
    }

    /// The state is to be kept within this time.
    pub fn save_soon(&mut self, now: BootTime, within: Millis) {
        let by = now + within;
        self.save_by = Some(self.save_by.map_or(by, |other| other.min(by)));
    }

    /// Messages from the disk that are to be said again now. What is to be read for the next time is for
    /// [`Outbox::next_job`].
    pub fn due(&mut self, sessions: &Sessions, now: BootTime, turn: Turn) -> Vec<Shared> {
        let waits =
            |message: &Shared| sessions.get(message.session).is_some_and(|known| !known.settled.contains(message.seq));
        let mut due = Vec::new();
        while due.len() < turn.most
            && let Some(message) = self.loaded.pop_front()
        {
            due.extend(Some(message).filter(waits));
        }
        if turn.most > 0 && self.pass.is_none() && self.loaded.len() < READ_BELOW {
            self.pass = self.next_pass(sessions, now, turn);
        }
        due
    }

    /// Of the segments with something to say again, the one whose turn is longest ago.
    fn next_pass(&self, sessions: &Sessions, now: BootTime, turn: Turn) -> Option<Pass> {
        let mut waiting: Vec<&Segment> = self.shelf.segments().filter(|segment| segment.waiting > 0).collect();
        waiting.sort_by_key(|segment| (segment.said, segment.generation));
        waiting.into_iter().find_map(|segment| {
            let quiet = segment.said.map(|said| now.since(said));
            let mut wanted = segment.waits(sessions);
            if quiet.is_some_and(|quiet| quiet < turn.patience) {
                if quiet < Some(turn.soon) {
                    return None;
                }
                wanted.retain(|session, seqs| {
                    let missing = sessions.get(*session).map(|known| &known.missing);
                    *seqs = missing.map(|missing| seqs.within(missing)).unwrap_or_default();
                    !seqs.is_empty()
                });
            }
            let Segment { number, generation, end, .. } = *segment;
            (!wanted.is_empty()).then(|| Pass {
                number,
                generation,
                at: record::HEADER as u64,
                until: end,
                wanted: Arc::new(wanted),
                found: Contents::new(),
            })
        })
    }
}

impl Disk {
    /// What waits in a segment that is about to go, and its generation. What is being read there is read no longer.
    fn about_to_go(&mut self, number: u32, sessions: &Sessions) -> Option<(u64, Contents)> {
        self.pass = self.pass.take().filter(|pass| pass.number != number);
        self.shelf.get(number).map(|victim| (victim.generation, victim.waits(sessions)))
    }
}

impl Outbox {
    /// The next thing to do with the disk, if there is one. What came of it is for [`Outbox::done`], and until then there
    /// is no other.
    pub fn next_job(&mut self, now: BootTime) -> Option<Job> {
        let disk = self.disk.as_mut()?;
        let (job, doing) = match disk.phase {
            Phase::Busy(_) => return None,
            Phase::Closed(until) if now < until && !disk.closing => return None,
            Phase::Closed(_) => (Job::Open, Doing::Opening),
            Phase::Idle => self.job(now)?,
        };
        if let Some(disk) = &mut self.disk {
            disk.phase = Phase::Busy(doing);
        }
        Some(job)
    }

    fn job(&mut self, now: BootTime) -> Option<(Job, Doing)> {
        let disk = self.disk.as_mut()?;
        if disk.must_save || disk.save_by.is_some_and(|by| by <= now) {
            (disk.must_save, disk.save_by) = (false, None);
            let state = State::new(self.sessions.to_keep(), self.losses.all(), disk.shelf.to_keep());
            return Some((Job::Save(Box::new(state)), Doing::Saving));
        }
        self.writing(now).or_else(|| self.reading())
    }

    fn writing(&mut self, now: BootTime) -> Option<(Job, Doing)> {
        let disk = self.disk.as_mut()?;
        // An eighth of memory is for what comes while the disk works.
        let is_pressed = self.memory.bytes() > self.bounds.memory_bytes / 8 * 7;
        let rested = disk.written_at.is_none_or(|at| now.since(at) >= WRITE_EVERY);
        let old = self.memory.oldest().is_some_and(|oldest| now.since(oldest) >= TO_DISK_AFTER);
        let is_due = is_pressed || disk.closing || (old && rested);
        if !is_due {
            return None;
        }
        let first = self.memory.messages().next().map(record::length)?;
        let place = match disk.shelf.room(first, self.sessions.pieces())? {
            Room::Here(place) => place,
            // Nothing has to go as long as memory has room.
            Room::Clear { .. } | Room::Lose(_) if !is_pressed && !disk.closing => return None,
            Room::Clear { number, keep, place } => {
                let (generation, waits) = disk.about_to_go(number, &self.sessions)?;
                let job = Job::Clear { number, generation, waits: Arc::new(waits), keep, place };
                return Some((job, Doing::Clearing(number, keep)));
            }
            Room::Lose(number) => {
                let (_, waits) = disk.about_to_go(number, &self.sessions)?;
                self.gone(number, &waits, Worth::Lasting, now);
                // That it is lost has to be kept before it is overwritten.
                return self.job(now);
            }
        };
        disk.written_at = Some(now);
        let mut left = disk.shelf.left_at(place).min(WRITTEN_AT_ONCE);
        let until = if is_pressed || disk.closing { now } else { BootTime(now.0.saturating_sub(TO_DISK_AFTER.0)) };
        let messages = self.memory.begin_to_write(until, |message| {
            let rest = left.checked_sub(record::length(message));
            left = rest.unwrap_or(0);
            rest.is_some()
        });
        Some((Job::Write { place, messages: messages.clone() }, Doing::Writing(place, messages)))
    }

    fn reading(&mut self) -> Option<(Job, Doing)> {
        let disk = self.disk.as_mut()?;
        let pass = disk.pass.as_ref().filter(|_| disk.loaded.len() < READ_BELOW)?;
        let job = Job::Read {
            number: pass.number,
            generation: pass.generation,
            from: pass.at,
            until: pass.until,
            wanted: pass.wanted.clone(),
            most_bytes: READ_AT_ONCE,
        };
        Some((job, Doing::Reading))
    }

    /// Takes what came of the last job.
    pub fn done(&mut self, outcome: Outcome, now: BootTime) {
        let Some(disk) = &mut self.disk else { return };
        let Phase::Busy(doing) = std::mem::replace(&mut disk.phase, Phase::Idle) else { return };
        match (outcome, doing) {
            (Outcome::Opened { state, segments, sessions, gone }, _) => {
                if let Some(state) = state.filter(|_| !disk.was_opened) {
                    self.sessions.restore(&state.sessions);
                    self.losses.restore(&state.lost);
                }
                // Of sessions that nobody knows otherwise, what the state describes is settled.
                sessions.into_iter().for_each(|session| {
                    self.sessions.find(session);
                });
                self.opened(segments, gone, now);
            }
            (Outcome::Saved, _) => {}
            (Outcome::Written { end }, Doing::Writing(place, messages)) => self.written(place, end, &messages, now),
            (Outcome::Cleared { segment, lost }, Doing::Clearing(number, keep)) => {
                disk.shelf.cleared(segment, &self.sessions);
                let worst = if keep == Worth::Lasting { Worth::Setpoint } else { Worth::Measurement };
                self.gone(number, &lost, worst, now);
            }
            (Outcome::Read { messages, next }, _) => self.was_read(messages, next, now),
            (Outcome::Failed { why }, _) => self.failed(why, now),
            // Nobody answers a question that was not asked.
            (Outcome::Written { .. } | Outcome::Cleared { .. }, _) => {}
        }
    }

    fn opened(&mut self, segments: Vec<Segment>, gone: Contents, now: BootTime) {
        let Some(disk) = &mut self.disk else { return };
        for (session, held) in segments.iter().flat_map(|segment| &segment.holds) {
            if let Some(known) = self.sessions.get_mut(*session) {
                known.last_seq = known.last_seq.max(held.highest());
            }
        }
        disk.shelf.restore(segments, &self.sessions);
        let first = !std::mem::replace(&mut disk.was_opened, true);
        if disk.trouble.take().is_some() {
            disk.events.push(DiskEvent::Recovered);
        }
        disk.pass = None;
        disk.must_save |= !first;
        gone.iter().for_each(|(session, held)| self.lose_unless_elsewhere(*session, held, now));
        let sessions: Vec<_> = self.sessions.all().map(|(session, _)| session).collect();
        sessions.into_iter().for_each(|session| self.lose_what_is_not_here(session, now));
        self.forget_sessions();
    }

    fn written(&mut self, place: Place, end: u64, messages: &[Shared], now: BootTime) {
        let Some(disk) = &mut self.disk else { return };
        for message in messages {
            self.memory.forget(message.session, message.seq);
        }
        disk.shelf.written(place, end, messages.iter().map(|message| &**message), &self.sessions);
        if place.is_new {
            // What the full segment holds need not be read again after a restart.
            disk.save_soon(now, LOSSES_SAVED_WITHIN);
        }
    }

    /// What waited in a segment is given up, but for what is elsewhere.
    fn gone(&mut self, number: u32, lost: &Contents, worst: Worth, now: BootTime) {
        let Some(disk) = &mut self.disk else { return };
        disk.shelf.empty(number);
        disk.must_save = true;
        self.given_up(worst);
        lost.iter().for_each(|(session, lost)| self.lose_unless_elsewhere(*session, lost, now));
    }

    fn was_read(&mut self, messages: Vec<Shared>, next: Option<u64>, now: BootTime) {
        let Some(disk) = &mut self.disk else { return };
        let Some(mut pass) = disk.pass.take() else { return };
        for message in &messages {
            pass.found.entry(message.session).or_default().insert(message.seq);
        }
        disk.loaded.extend(messages);
        if let Some(next) = next {
            pass.at = next;
            disk.pass = Some(pass);
            return;
        }
        if let Some(segment) = disk.shelf.get_mut(pass.number, pass.generation) {
            segment.said = Some(now);
            if segment.end > pass.until {
                // It has grown meanwhile: what was not found may stand behind.
                return;
            }
        }
        // What should stand there and does not read is lost, unless it is elsewhere.
        for (session, wanted) in pass.wanted.iter() {
            let unread = wanted.without(&pass.found.remove(session).unwrap_or_default());
            if let Some(disk) = self.disk.as_mut().filter(|_| !unread.is_empty()) {
                disk.shelf.unread((pass.number, pass.generation), *session, &unread, &self.sessions);
                self.lose_unless_elsewhere(*session, &unread, now);
            }
        }
    }

    fn failed(&mut self, why: String, now: BootTime) {
        self.memory.write_ended();
        let Some(disk) = &mut self.disk else { return };
        disk.phase = Phase::Closed(now + TRY_AGAIN);
        disk.must_save = true;
        disk.pass = None;
        if disk.trouble.replace(why.clone()).is_none() {
            disk.events.push(DiskEvent::Failed(why));
        }
    }

    /// Whether nobody knows yet if the disk can be used.
    pub fn is_opening(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| !disk.was_opened && disk.trouble.is_none())
    }

    /// Whether the folder is, or was, this agent's.
    pub fn has_opened(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.was_opened)
    }

    /// Why the disk does not work, if it does not.
    #[cfg(test)]
    pub(super) fn disk_trouble(&self) -> Option<&str> {
        self.disk.as_ref().and_then(|disk| disk.trouble.as_deref())
    }

    /// Whether messages are being written right now.
    #[cfg(test)]
    pub(super) fn is_writing(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| matches!(disk.phase, Phase::Busy(Doing::Writing(..))))
    }

    /// What happened to the disk since the last call.
    pub fn disk_events(&mut self) -> Vec<DiskEvent> {
        self.disk.as_mut().map(|disk| std::mem::take(&mut disk.events)).unwrap_or_default()
    }

    /// The agent ends: everything that waits goes to disk, and the state with it.
    pub fn close(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.closing = true;
            disk.must_save = true;
        }
    }

    /// Whether, after [`Outbox::close`], nothing is left to be done.
    pub fn is_closed(&self) -> bool {
        self.disk.as_ref().is_none_or(|disk| {
            let nothing_left = self.memory.len() == 0 && !disk.must_save;
            disk.trouble.is_some() || (matches!(disk.phase, Phase::Idle) && nothing_left)
        })
    }
}

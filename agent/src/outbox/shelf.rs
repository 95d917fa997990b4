//! Which segments are on disk, what is in them, and where the next messages go.
//!
//! A store of `disk_bytes` is so many segments of one size. Messages are appended to the newest. When it is full, a number
//! that was never used comes next, and when there is none, the oldest segment of which everything is acknowledged: so
//! acknowledged messages stay for as long as there is room.
//!
//! One segment is always kept free. When all others hold something that waits, the oldest of those with measurements
//! worth the work is cleared: what is worth more is copied into the free one, and its measurements are lost. When no
//! segment has enough of them, setpoints go with them, and when only events and statuses are left, the oldest segment
//! goes whole.
//!
//! Each lost message between two that are kept is a piece of its own, to be remembered, and to be declared in an event
//! as long as a measurement. So there is a most of pieces, beyond which what is worth more goes too: the outbox stays as
//! small as it must be, and the log is not filled with what it lacks.

use std::collections::BTreeMap;

use grid_protocol::message::Session;
use grid_protocol::sequence::Sequence;
use grid_protocol::units::{BootTime, UnixMillis};

use super::message::{Message, Worth};
use super::record;
use super::sessions::Sessions;
use super::state::KeptSegment;

/// Messages of several sessions.
pub type Contents = BTreeMap<Session, Sequence>;

/// A segment is cleared only if this part of it can go: copying all the rest wears the disk.
const WORTH_CLEARING: u64 = 8;
/// What is kept in a segment that is cleared, as long as what is settled is in fewer pieces than this.
const KEPT: [(Worth, usize); 2] = [(Worth::Setpoint, 4096), (Worth::Lasting, 16_384)];

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which.
    pub number: u32,
    /// The how-manieth of all that were begun. The same number has another each time it is used.
    pub generation: u64,
    /// So many bytes of it are written.
    pub end: u64,
    /// Nothing more is appended to it.
    pub is_full: bool,
    /// Bytes of measurements in it.
    pub measurement_bytes: u64,
    /// Bytes of setpoints in it.
    pub setpoint_bytes: u64,
    /// When its oldest message was said.
    pub oldest: UnixMillis,
    /// What is in it.
    pub holds: Contents,
    /// How many of that are neither acknowledged nor lost.
    pub waiting: u64,
    /// When all that waits in it was said again last.
    pub said: Option<BootTime>,
}

impl Segment {
    /// An empty one.
    pub fn new(number: u32, generation: u64) -> Self {
        Self {
            number,
            generation,
            end: record::HEADER as u64,
            is_full: false,
            measurement_bytes: 0,
            setpoint_bytes: 0,
            oldest: UnixMillis(u64::MAX),
            holds: Contents::new(),
            waiting: 0,
            said: None,
        }
    }

    /// A message stands in it.
    pub fn add(&mut self, message: &Message) {
        self.holds.entry(message.session).or_default().insert(message.seq);
        self.oldest = self.oldest.min(message.said_at);
        match message.worth() {
            Worth::Measurement => self.measurement_bytes += record::length(message),
            Worth::Setpoint => self.setpoint_bytes += record::length(message),
            Worth::Lasting => {}
        }
    }

    /// How many bytes in it are worth less.
    fn bytes_below(&self, worth: Worth) -> u64 {
        match worth {
            Worth::Measurement => 0,
            Worth::Setpoint => self.measurement_bytes,
            Worth::Lasting => self.measurement_bytes + self.setpoint_bytes,
        }
    }

    /// Nothing in it waits any more.
    fn empty(&mut self) {
        self.holds.clear();
        (self.measurement_bytes, self.setpoint_bytes) = (0, 0);
        self.waiting = 0;
    }

    /// What in it waits: of the sessions that are known, what is not settled.
    pub fn waits(&self, sessions: &Sessions) -> Contents {
        let waits = |(session, held): (&Session, &Sequence)| {
            let waiting = held.without(&sessions.get(*session)?.settled);
            (!waiting.is_empty()).then_some((*session, waiting))
        };
        self.holds.iter().filter_map(waits).collect()
    }

    /// How many bytes wait, as far as that can be told without reading it.
    pub fn waiting_bytes(&self) -> u64 {
        let held: u64 = self.holds.values().map(Sequence::count).sum();
        (u128::from(self.end) * u128::from(self.waiting) / u128::from(held.max(1))) as u64
    }

    fn to_keep(&self) -> KeptSegment {
        KeptSegment {
            number: self.number,
            generation: self.generation,
            end: self.end,
            is_full: self.is_full,
            measurement_bytes: self.measurement_bytes,
            setpoint_bytes: self.setpoint_bytes,
            oldest_ms: self.oldest,
            holds: self.holds.iter().map(|(session, held)| (*session, held.ranges().collect())).collect(),
        }
    }
}

/// Where in a segment the next bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub number: u32,
    /// Its generation.
    pub generation: u64,
    /// Whether the segment begins here, and what has this number is overwritten.
    pub is_new: bool,
    /// The byte.
    pub at: u64,
}

/// What can be done to write so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// They go here.
    Here(Place),
    /// Only if what is worth less than `keep` in this segment is given up, and the rest of it goes to `place`.
    Clear {
        /// The segment.
        number: u32,
        /// What stays.
        keep: Worth,
        /// Where it goes.
        place: Place,
    },
    /// Only if all that waits in this segment is given up.
    Lose(u32),
}

/// All segments.
#[derive(Clone, Debug)]
pub struct Shelf {
    segment_bytes: u64,
    most: u32,
    segments: BTreeMap<u32, Segment>,
    /// The one that is appended to.
    open: Option<u32>,
    next_generation: u64,
}

impl Shelf {
    /// An empty one for `most` segments.
    pub fn new(most: u32, segment_bytes: u64) -> Self {
        Self { segment_bytes, most, segments: BTreeMap::new(), open: None, next_generation: 1 }
    }

    /// Takes what was found on disk instead of what is here.
    pub fn restore(&mut self, found: Vec<Segment>, sessions: &Sessions) {
        let said: BTreeMap<u64, Option<BootTime>> =
            self.segments.values().map(|segment| (segment.generation, segment.said)).collect();
        self.segments = found.into_iter().map(|segment| (segment.number, segment)).collect();
        let newest = self.segments.values().max_by_key(|segment| segment.generation);
        self.next_generation = self.next_generation.max(newest.map_or(0, |segment| segment.generation) + 1);
        self.open = newest.filter(|segment| !segment.is_full).map(|segment| segment.number);
        for segment in self.segments.values_mut() {
            segment.said = said.get(&segment.generation).copied().flatten();
            segment.is_full |= Some(segment.number) != self.open;
            segment.waiting = segment.waits(sessions).values().map(Sequence::count).sum();
        }
        self.drop_copy(sessions);
    }

    /// A power cut while a segment was cleared leaves the newest as a copy, of a part or of nothing: all that waits in it
    /// waits where it came from too. Then it is the free one again.
    fn drop_copy(&mut self, sessions: &Sessions) {
        let Some(newest) = self.segments.values().max_by_key(|segment| segment.generation) else { return };
        let number = newest.number;
        let is_elsewhere = |(session, seqs): (Session, Sequence)| {
            let others = self.segments.values().filter(|segment| segment.number != number);
            let left =
                others.filter_map(|segment| segment.holds.get(&session)).fold(seqs, |left, held| left.without(held));
            left.is_empty()
        };
        if newest.waits(sessions).into_iter().all(is_elsewhere) {
            self.open = None;
            if let Some(copy) = self.segments.get_mut(&number) {
                copy.is_full = true;
                copy.empty();
            }
        }
    }

    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.values()
    }

    pub fn get_mut(&mut self, number: u32, generation: u64) -> Option<&mut Segment> {
        self.segments.get_mut(&number).filter(|segment| segment.generation == generation)
    }

    /// How many messages wait.
    pub fn waiting(&self) -> u64 {
        self.segments.values().map(|segment| segment.waiting).sum()
    }

    /// Which of a session's messages are on disk.
    pub fn of(&self, session: Session) -> Sequence {
        let mut all = Sequence::default();
        self.segments.values().filter_map(|segment| segment.holds.get(&session)).for_each(|held| all.insert_all(held));
        all
    }

    /// Counts anew what waits of a session. Says whether that changed.
    pub fn recount(&mut self, session: Session, sessions: &Sessions) -> bool {
        let mut changed = false;
        for segment in self.segments.values_mut().filter(|segment| segment.waiting > 0) {
            if segment.holds.contains_key(&session) {
                let waiting = segment.waits(sessions).values().map(Sequence::count).sum();
                changed |= std::mem::replace(&mut segment.waiting, waiting) != waiting;
            }
        }
        changed
    }

    /// Where `bytes` can go, if what is settled is in so many pieces.
    pub fn room(&self, bytes: u64, pieces: usize) -> Option<Room> {
        if let Some(segment) = self.open.and_then(|open| self.segments.get(&open))
            && segment.end + bytes <= self.segment_bytes
        {
            let Segment { number, generation, end, .. } = *segment;
            return Some(Room::Here(Place { number, generation, is_new: false, at: end }));
        }
        let mut unused = (0..self.most).filter(|number| !self.segments.contains_key(number));
        let mut done: Vec<&Segment> = self.segments.values().filter(|segment| segment.waiting == 0).collect();
        done.sort_by_key(|segment| segment.generation);
        let mut free = unused.by_ref().chain(done.iter().map(|segment| segment.number));
        let place = free.next().map(|number| Place {
            number,
            generation: self.next_generation,
            is_new: true,
            at: record::HEADER as u64,
        });
        let is_last = free.next().is_none();
        match place {
            Some(place) if !is_last => Some(Room::Here(place)),
            Some(place) => self.to_clear(place, pieces).or_else(|| self.to_lose()),
            None => self.to_lose(),
        }
    }

    /// Of the segments with something that waits, the oldest that is so.
    fn oldest(&self, is_so: impl Fn(&Segment) -> bool) -> Option<&Segment> {
        let waiting = self.segments.values().filter(|segment| segment.waiting > 0 && is_so(segment));
        waiting.min_by_key(|segment| segment.generation)
    }

    fn to_clear(&self, place: Place, pieces: usize) -> Option<Room> {
        KEPT.iter().filter(|(_, most)| pieces < *most).find_map(|(keep, _)| {
            let victim = self.oldest(|segment| segment.bytes_below(*keep) >= self.segment_bytes / WORTH_CLEARING)?;
            Some(Room::Clear { number: victim.number, keep: *keep, place })
        })
    }

    fn to_lose(&self) -> Option<Room> {
        self.oldest(|_| true).map(|victim| Room::Lose(victim.number))
    }

    /// How many bytes the place's segment still takes.
    pub fn left_at(&self, place: Place) -> u64 {
        self.segment_bytes.saturating_sub(place.at)
    }

    /// The segment of a number.
    pub fn get(&self, number: u32) -> Option<&Segment> {
        self.segments.get(&number)
    }

    /// These messages were written at a place, up to `end`.
    pub fn written<'a>(
        &mut self,
        place: Place,
        end: u64,
        messages: impl Iterator<Item = &'a Message>,
        sessions: &Sessions,
    ) {
        if place.is_new {
            self.begin(Segment::new(place.number, place.generation));
        }
        if let Some(segment) = self.segments.get_mut(&place.number) {
            messages.for_each(|message| segment.add(message));
            segment.end = end;
        }
        self.count(place.number, sessions);
    }

    /// A segment was cleared: what stays of it is in this one.
    pub fn cleared(&mut self, segment: Segment, sessions: &Sessions) {
        let number = segment.number;
        self.begin(segment);
        self.count(number, sessions);
    }

    fn begin(&mut self, segment: Segment) {
        if let Some(full) = self.open.and_then(|open| self.segments.get_mut(&open)) {
            full.is_full = true;
        }
        self.next_generation = self.next_generation.max(segment.generation + 1);
        self.open = Some(segment.number);
        self.segments.insert(segment.number, segment);
    }

    fn count(&mut self, number: u32, sessions: &Sessions) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.waiting = segment.waits(sessions).values().map(Sequence::count).sum();
        }
    }

    /// Nothing waits in this segment any more: what did is elsewhere, or lost.
    pub fn empty(&mut self, number: u32) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.empty();
        }
    }

    /// These messages of a session do not read there.
    pub fn unread(
        &mut self,
        (number, generation): (u32, u64),
        session: Session,
        unread: &Sequence,
        sessions: &Sessions,
    ) {
        if let Some(held) = self.get_mut(number, generation).and_then(|segment| segment.holds.get_mut(&session)) {
            *held = held.without(unread);
            self.count(number, sessions);
        }
    }

    /// What is to be known after a restart.
    pub fn to_keep(&self) -> Vec<KeptSegment> {
        self.segments.values().map(Segment::to_keep).collect()
    }
}

//! The outbox's folder: does what the outbox wants done.
//!
//! ```text
//! lock                one agent at a time
//! state.json          sessions, losses, what is in the segments; replaced whole
//! segment-0000 …      messages, in the format of [`record`](super::record)
//! status.socket       asked by `grid-agent status`
//! ```
//!
//! A segment is begun by putting a new header in its place, whole or not at all, and only appended to after that. A
//! write is one append and one sync. What is in a segment is what reads in it; the state only saves reading.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use grid_durable::{Appendable, Durable, DurableError};
use grid_protocol::message::Session;
use grid_protocol::sequence::Sequence;

use super::job::{Job, Outcome};
use super::message::{Shared, Worth};
use super::record::{self, HEADER, Records};
use super::shelf::{Contents, Place, Segment};
use super::state::{self, State};

/// What is copied from one segment to another is written in pieces of about this size.
const COPIED_AT_ONCE: usize = 64 * 1024;

/// Why a folder could not be worked with.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error(transparent)]
    Durable(#[from] DurableError),
    #[error("cannot read segment {number}: {source}")]
    Read { number: u32, source: io::Error },
    #[error("the folder is not open")]
    Closed,
}

/// A segment being read.
type Reading = Records<Box<dyn Read + Send>>;
type Opener = Box<dyn FnMut() -> Result<Durable, DurableError> + Send>;

/// The folder.
pub struct Store {
    open: Opener,
    folder: Option<Folder>,
}

struct Folder {
    durable: Durable,
    /// The segment that is appended to: number, generation and end.
    writing: Option<(u32, u64, u64, Appendable)>,
    /// The segment that is being read: number, generation.
    reading: Option<(u32, u64, Reading)>,
}

/// The file of a segment.
fn file(number: u32) -> String {
    format!("segment-{number:04}")
}

fn number(file: &str) -> Option<u32> {
    file.strip_prefix("segment-")?.parse().ok()
}

fn contains(contents: &Contents, session: Session, seq: u64) -> bool {
    contents.get(&session).is_some_and(|wanted| wanted.contains(seq))
}

impl Store {
    /// A folder that `open` opens, when it is to be.
    pub fn new(open: impl FnMut() -> Result<Durable, DurableError> + Send + 'static) -> Self {
        Self { open: Box::new(open), folder: None }
    }

    /// Does it.
    pub fn perform(&mut self, job: Job) -> Outcome {
        self.attempt(job).unwrap_or_else(|error| {
            // What is on disk is known only after opening it anew.
            self.folder = None;
            Outcome::Failed { why: error.to_string() }
        })
    }

    fn attempt(&mut self, job: Job) -> Result<Outcome, StoreError> {
        if let Job::Open = job {
            self.folder = None;
            let folder = Folder { durable: (self.open)()?, writing: None, reading: None };
            let outcome = look(&folder.durable)?;
            self.folder = Some(folder);
            return Ok(outcome);
        }
        let folder = self.folder.as_mut().ok_or(StoreError::Closed)?;
        match job {
            Job::Open => Err(StoreError::Closed),
            Job::Save(state) => folder.save(&state),
            Job::Write { place, messages } => folder.write(place, &messages),
            Job::Clear { number, generation, waits, keep, place } => {
                folder.clear((number, generation), (&waits, keep), place)
            }
            Job::Read { number, generation, from, until, wanted, most_bytes } => {
                folder.read((number, generation), (from, until), &wanted, most_bytes)
            }
        }
    }
}

/// What is in the folder.
fn look(durable: &Durable) -> Result<Outcome, StoreError> {
    let bytes = durable.read(state::FILE)?;
    let state = bytes.as_deref().and_then(State::read);
    if bytes.is_some() && state.is_none() {
        tracing::warn!("the outbox's {} does not read: all that is in the segments is taken to wait", state::FILE);
    }
    let mut known: BTreeMap<u32, Segment> = BTreeMap::new();
    for kept in state.iter().flat_map(|state| &state.segments) {
        known.insert(kept.number, kept.restore());
    }
    let (mut segments, mut sessions) = (Vec::new(), BTreeSet::new());
    let mut gone = Contents::new();
    for number in durable.names_in("")?.iter().filter_map(|name| number(name)) {
        let failed = |source| StoreError::Read { number, source };
        let mut input = durable.reader(&file(number))?;
        let Some(generation) = record::read_header(&mut input).map_err(failed)? else { continue };
        let described = match known.remove(&number) {
            Some(segment) if segment.generation == generation => segment,
            // Begun after the state was kept, which says that what was there before no longer matters.
            Some(_) | None => Segment::new(number, generation),
        };
        segments.push(described_and_rest(described, input, &mut sessions).map_err(failed)?);
    }
    for segment in known.into_values() {
        tracing::warn!(segment = segment.number, "a segment of the outbox is gone");
        segment.holds.iter().for_each(|(session, held)| gone.entry(*session).or_default().insert_all(held));
    }
    Ok(Outcome::Opened { state, segments, sessions, gone })
}

/// Adds what stands in a segment beyond what is known of it. `input` has been read up to the end of the header.
fn described_and_rest(
    mut segment: Segment,
    mut input: impl Read,
    sessions: &mut BTreeSet<Session>,
) -> io::Result<Segment> {
    if segment.is_full {
        return Ok(segment);
    }
    io::copy(&mut input.by_ref().take(segment.end.saturating_sub(HEADER as u64)), &mut io::sink())?;
    let mut records = Records::after(input, segment.generation, segment.end);
    while let Some(message) = records.read()? {
        segment.add(&message);
        sessions.insert(message.session);
        segment.end = records.offset();
    }
    Ok(segment)
}

impl Folder {
    fn save(&mut self, state: &State) -> Result<Outcome, StoreError> {
        self.durable.place(state::FILE, &state.write())?;
        self.durable.settle()?;
        Ok(Outcome::Saved)
    }

    /// The segment to append to. What stands behind the place is a torn end, and cut off.
    fn appendable(&mut self, place: Place) -> Result<&mut (u32, u64, u64, Appendable), StoreError> {
        let is_it = |(number, generation, end, _): &(u32, u64, u64, Appendable)| {
            (*number, *generation, *end) == (place.number, place.generation, place.at)
        };
        let kept = self.writing.take().filter(is_it).filter(|_| !place.is_new);
        let writing = match kept {
            Some(writing) => writing,
            None => {
                if place.is_new {
                    self.reading = None;
                    self.durable.place(&file(place.number), &record::header(place.generation))?;
                    self.durable.settle()?;
                }
                let opened = self.durable.open_appendable(&file(place.number), place.at)?;
                (place.number, place.generation, place.at, opened)
            }
        };
        Ok(self.writing.insert(writing))
    }

    fn append(&mut self, place: Place, bytes: &[u8]) -> Result<Place, StoreError> {
        self.appendable(place)?;
        if let Some((_, _, end, to)) = &mut self.writing {
            self.durable.append(to, bytes)?;
            *end += bytes.len() as u64;
        }
        Ok(Place { is_new: false, at: place.at + bytes.len() as u64, ..place })
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if let Some((_, _, _, to)) = &mut self.writing {
            self.durable.sync(to)?;
        }
        Ok(())
    }

    fn write(&mut self, place: Place, messages: &[Shared]) -> Result<Outcome, StoreError> {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| record::write(message, place.generation, &mut bytes));
        let after = self.append(place, &bytes)?;
        self.sync()?;
        Ok(Outcome::Written { end: after.at })
    }

    fn clear(
        &mut self,
        (number, generation): (u32, u64),
        (waits, keep): (&Contents, Worth),
        place: Place,
    ) -> Result<Outcome, StoreError> {
        let failed = |source| StoreError::Read { number, source };
        let mut records = self.records(number, generation, HEADER as u64)?;
        let mut lost = waits.clone();
        let mut segment = Segment::new(place.number, place.generation);
        let (mut bytes, mut next) = (Vec::new(), place);
        while let Some(message) = records.read().map_err(failed)? {
            if message.worth() < keep || !contains(waits, message.session, message.seq) {
                continue;
            }
            if let Some(lost) = lost.get_mut(&message.session) {
                let mut this = Sequence::default();
                this.insert(message.seq);
                *lost = lost.without(&this);
            }
            record::write(&message, place.generation, &mut bytes);
            segment.add(&message);
            if bytes.len() >= COPIED_AT_ONCE {
                next = self.append(next, &bytes)?;
                bytes.clear();
            }
        }
        next = self.append(next, &bytes)?;
        self.sync()?;
        segment.end = next.at;
        lost.retain(|_, lost| !lost.is_empty());
        Ok(Outcome::Cleared { segment, lost })
    }

    /// A reader of a segment from this byte on.
    fn records(&mut self, number: u32, generation: u64, from: u64) -> Result<Reading, StoreError> {
        if let Some((read, of, records)) = self.reading.take()
            && (read, of, records.offset()) == (number, generation, from)
        {
            return Ok(records);
        }
        let mut input: Box<dyn Read + Send> = Box::new(self.durable.reader(&file(number))?);
        io::copy(&mut input.by_ref().take(from), &mut io::sink())
            .map_err(|source| StoreError::Read { number, source })?;
        Ok(Records::after(input, generation, from))
    }

    fn read(
        &mut self,
        (number, generation): (u32, u64),
        (from, until): (u64, u64),
        wanted: &Contents,
        most_bytes: usize,
    ) -> Result<Outcome, StoreError> {
        let failed = |source| StoreError::Read { number, source };
        if !self.durable.names_in("")?.contains(&file(number)) {
            // Somebody removed it. What was in it counts as unread.
            return Ok(Outcome::Read { messages: Vec::new(), next: None });
        }
        let mut records = self.records(number, generation, from)?;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while bytes < most_bytes && records.offset() < until {
            let Some(message) = records.read().map_err(failed)? else {
                return Ok(Outcome::Read { messages, next: None });
            };
            if contains(wanted, message.session, message.seq) {
                bytes += message.payload.len();
                messages.push(message);
            }
        }
        let next = Some(records.offset()).filter(|offset| *offset < until);
        if next.is_some() {
            self.reading = Some((number, generation, records));
        }
        Ok(Outcome::Read { messages, next })
    }
}

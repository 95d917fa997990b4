//! Does a log hold? Everything is computed again from the entries, and every byte of every file must be what follows.
//!
//! The log is read bundle by bundle, so memory does not grow with it. For each entry its leaf hash must stand in the
//! level-0 tile, each full tile's hash in the tile above, and the root in the checkpoint that the policy's key signed
//! (`tree`); files that do not belong are named (`files`). Then each message is judged by the certificates and the
//! revocations that stand before it (`messages`), and each session by its numbers (`sessions`).
//!
//! What the ledger says of it is a question of its own (`ledger`), also through older trails (`chain`); where it is asked, its records also say between which
//! times each entry was received (`time`). An older checkpoint that somebody kept is asked for in [`Questions::since`]:
//! a log that was rewritten, or cut back, does not continue it.
//!
//! Retention may have dropped bundles and level-0 tiles in front (C2SP tlog-tiles, section "Pruning"). Then the tree is
//! computed from the level-1 hashes there, and messages are judged by what the anchor repeats of it (`recall`).
//!
//! A folder may hold more than its checkpoint vouches for. Partial tiles of older checkpoints, which a kill leaves, must
//! fit. What is about later entries may say what it likes, as long as it does not contradict the checkpoint; the rest of
//! a drop that was cut short, and what a system puts into every folder, are not looked at. Of all three the report tells
//! ([`Beside`]).

mod chain;
mod failure;
mod files;
mod ledger;
mod messages;
mod recall;
mod report;
mod sessions;
#[cfg(test)]
mod tests;
mod time;
mod trail;
mod tree;

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use grid_protocol::units::UnixMillis;

use crate::checkpoint::{BadCheckpoint, Head, read_unsigned};
use crate::policy::Policy;
use crate::source::{FileError, Folder, Listed, ReadError, Source, SourceError, dropped_bundles, read_hashes};
use crate::speech::Speakers;
use crate::tile::{FULL, Level, Tile};
use crate::tree::Edge;

pub use chain::Continued;
pub use failure::LedgerFailure;
pub use ledger::{LedgerReport, NewestRecord, Records, Standing, verify_ledger};
pub use messages::{Doubt, Messages};
pub use recall::{hear_notice, recall};
pub use report::{Beside, FailedEntry, Failure, Files, Report, Since};
pub use sessions::{DeviceSession, Explanation, Gap};
pub use time::{Bracket, Brackets};
pub(crate) use trail::Trail;
pub use tree::Roots;

/// How often a log that changes meanwhile is looked at again.
const TRIES: u32 = 3;
/// How long an anchor is given to finish what it is writing.
const PAUSE: Duration = Duration::from_millis(100);

/// Why it could not be told whether a log holds.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no log.
    #[error("there is no log in {0}: expected a folder or URL with a file named checkpoint, such as <data_dir>/log")]
    NoLog(String),
    /// A file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The older checkpoint is none of this log.
    #[error("the older checkpoint: {0}")]
    Since(BadCheckpoint),
    /// The older checkpoint is another log's.
    #[error("the older checkpoint is of the log {found}, not of {expected}")]
    OtherSince {
        /// Of which log it is.
        found: String,
        /// Which is verified.
        expected: String,
    },
}

/// A span of time: from a moment on, before another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from: Option<UnixMillis>,
    /// The first moment after it.
    pub to: Option<UnixMillis>,
}

impl Span {
    fn contains(self, at: UnixMillis) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many entries were looked at.
    pub entries: u64,
    /// Of how many.
    pub of: u64,
    /// How many bytes were read.
    pub bytes: u64,
}

/// What is asked about a log.
#[derive(Clone, Default)]
pub struct Questions<'a> {
    /// Who vouches for it. Without a policy only its inner consistency is checked.
    pub policy: Option<&'a Policy>,
    /// A checkpoint of it that somebody kept.
    pub since: Option<&'a [u8]>,
    /// At which sizes the root is wanted.
    pub sizes: BTreeSet<u64>,
    /// When the ledger's records were added.
    pub brackets: Brackets,
    /// At which entry the log begins, for who knows it. Otherwise what is missing in front tells it.
    pub begins_at: Option<u64>,
    /// Of which entries to tell, by the time at which they say they were received. All are checked.
    pub reported: Span,
    /// Is told how far it is.
    pub watch: Option<&'a (dyn Fn(Progress) + Sync)>,
}

/// Why a step ended early.
enum Broken {
    /// Something does not hold.
    Fails(Box<Failure>),
    /// It cannot be told.
    Unknown(VerifyError),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Fails(Box::new(failure))
    }
}

impl From<SourceError> for Broken {
    fn from(error: SourceError) -> Self {
        Self::Unknown(error.into())
    }
}

impl From<FileError> for Broken {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Read { path, why } => unreadable(&path, why),
            FileError::Bundle { path, why } => Failure::of(path, why).into(),
        }
    }
}

/// A log whose files must be there.
struct Log<'a> {
    source: &'a dyn Source,
}

impl Log<'_> {
    /// Reads a file.
    fn read(&self, path: &str) -> Result<Vec<u8>, Broken> {
        self.source.read(path).map_err(|why| unreadable(path, why))
    }

    /// Reads the hashes of a tile, also from a fuller one.
    fn hashes(&self, tile: Tile) -> Result<Vec<u8>, Broken> {
        read_hashes(self.source, tile).map_err(|why| unreadable(&tile.path(), why))
    }
}

fn unreadable(path: &str, why: ReadError) -> Broken {
    match why {
        ReadError::Failed(error) => error.into(),
        ReadError::Missing | ReadError::NotAFile | ReadError::TooLarge(_) => Failure::of(path, why).into(),
    }
}

/// Checks the log in a folder. Without a policy nobody vouches for its key, and only its inner consistency is checked.
pub fn verify_log(folder: &Path, policy: Option<&Policy>) -> Result<Report, VerifyError> {
    let questions = Questions { policy, ..Questions::default() };
    verify(&Folder::new(folder), &questions).map(|(report, _)| report)
}

/// Checks a log. Also says which roots it had at the sizes that were asked for.
pub fn verify(source: &dyn Source, questions: &Questions) -> Result<(Report, Roots), VerifyError> {
    let log = Log { source };
    let mut tries = 0;
    loop {
        tries += 1;
        let before = source.read("checkpoint").ok();
        let (report, roots) = verify_once(&log, questions)?;
        // An anchor that writes a checkpoint while we read replaces files that we expect, and retention drops others.
        let changed = || {
            let dropped = dropped_bundles(source, report.tree_size);
            let begins_later = |dropped| dropped * u64::from(FULL) > report.minimum_index;
            source.read("checkpoint").ok() != before || dropped.is_ok_and(begins_later)
        };
        if report.failure.is_none() || tries == TRIES || !changed() {
            return Ok((report, roots));
        }
        thread::sleep(PAUSE);
    }
}

fn verify_once(log: &Log, questions: &Questions) -> Result<(Report, Roots), VerifyError> {
    let mut report = Report { vouched: questions.policy.is_some(), ..Report::default() };
    let mut roots: Roots = questions.sizes.iter().map(|size| (*size, None)).collect();
    match check(log, questions, &mut roots, &mut report) {
        Ok(()) => report.holds = report.vouched,
        Err(Broken::Fails(failure)) => report.failure = Some(*failure),
        Err(Broken::Unknown(error)) => return Err(error),
    }
    Ok((report, roots))
}

fn check(log: &Log, questions: &Questions, roots: &mut Roots, report: &mut Report) -> Result<(), Broken> {
    let head = check_checkpoint(log, questions.policy, report)?;
    let since = questions.since.map(|note| read_since(note, questions.policy, &head)).transpose()?;
    let beginning = match questions.begins_at {
        Some(index) => Beginning { dropped: index / u64::from(FULL), is_known: true },
        None => Beginning { dropped: dropped_bundles(log.source, head.size)?, is_known: false },
    };
    let dropped = beginning.dropped;
    report.minimum_index = dropped * u64::from(FULL);
    check_dropped(log, beginning)?;
    let mut judge = match questions.policy {
        None => None,
        Some(policy) => {
            let mut speakers = Speakers::new(policy.site.clone(), policy.authority.clone());
            if dropped > 0 {
                recall(log.source, head.size, dropped, &mut speakers)?;
            }
            let brackets = questions.brackets.clone();
            Some(messages::Judge::new(speakers, brackets, questions.reported, dropped > 0))
        }
    };
    if let Some(since) = &since {
        roots.entry(since.size).or_insert(None);
    }
    let mut bytes = 0;
    let outcome = tree::check_tree(log, &head, dropped, roots, |batch| {
        report.entries += batch.entries.iter().map(|entries| entries.len() as u64).sum::<u64>();
        if let Some(judge) = &mut judge {
            judge.hear_all(batch.first, batch.entries);
        }
        bytes += batch.bytes;
        if let Some(watch) = questions.watch {
            watch(Progress { entries: report.entries, of: head.size - report.minimum_index, bytes });
        }
    });
    report.messages = judge.map(messages::Judge::finish).unwrap_or_default();
    let edge = outcome?;
    if edge.root() != head.root {
        return Err(Failure::of("checkpoint", "the entries do not give its root hash").into());
    }
    if let Some(since) = since {
        report.since = Some(check_since(&since, &head, roots)?);
    }
    report.beside = check_files(log, &edge, beginning)?;
    Ok(())
}

fn check_checkpoint(log: &Log, policy: Option<&Policy>, report: &mut Report) -> Result<Head, Broken> {
    let note = match log.source.read("checkpoint") {
        Err(ReadError::Missing) => {
            let has_tiles = |files: Vec<Listed>| files.iter().any(|file| file.path.starts_with("tile/"));
            if log.source.files()?.is_some_and(has_tiles) {
                return Err(Failure::of("checkpoint", ReadError::Missing).into());
            }
            return Err(Broken::Unknown(VerifyError::NoLog(log.source.place())));
        }
        other => other.map_err(|why| unreadable("checkpoint", why))?,
    };
    let fails = |why: BadCheckpoint| Failure::of("checkpoint", why);
    let unsigned = read_unsigned(&note).map_err(fails)?;
    report.origin = unsigned.head.origin.clone();
    report.tree_size = unsigned.head.size;
    report.root_hash = unsigned.head.root.to_string();
    report.keys = unsigned.keys;
    match policy {
        Some(policy) => Ok(policy.log.open(&note).map_err(fails)?),
        None => Ok(unsigned.head),
    }
}

/// The head in an older checkpoint of the same log.
fn read_since(note: &[u8], policy: Option<&Policy>, head: &Head) -> Result<Head, Broken> {
    let since = match policy {
        Some(policy) => policy.log.open(note),
        None => read_unsigned(note).map(|unsigned| unsigned.head),
    };
    let since = since.map_err(|why| Broken::Unknown(VerifyError::Since(why)))?;
    if since.origin != head.origin {
        let (found, expected) = (since.origin, head.origin.clone());
        return Err(Broken::Unknown(VerifyError::OtherSince { found, expected }));
    }
    Ok(since)
}

/// The log must continue an older checkpoint.
fn check_since(since: &Head, head: &Head, roots: &Roots) -> Result<Since, Broken> {
    let Head { size, root, .. } = since;
    if *size > head.size {
        let why =
            format!("the log was cut back: an older checkpoint vouches for {size} entries, this one for {}", head.size);
        return Err(Failure::of("checkpoint", why).into());
    }
    match roots.get(size).copied().flatten() {
        Some(now) if now != *root => {
            let why = format!(
                "the log was rewritten: by the older checkpoint its first {size} entries had root {root}, now they have {now}"
            );
            Err(Failure::of("checkpoint", why).into())
        }
        found => Ok(Since { tree_size: *size, continued: found.is_some() }),
    }
}

/// Where the log begins, and whether that is known or was found by what is missing in front.
#[derive(Clone, Copy)]
struct Beginning {
    dropped: u64,
    is_known: bool,
}

/// A bundle goes before the tile of its hashes, never the other way round.
fn check_dropped(log: &Log, beginning: Beginning) -> Result<(), Broken> {
    let Some(last) = beginning.dropped.checked_sub(1).filter(|_| !beginning.is_known) else { return Ok(()) };
    match log.source.read(&Tile::full(Level::Entries, last).path()) {
        Err(ReadError::Missing) => Ok(()),
        Err(ReadError::Failed(error)) => Err(error.into()),
        Ok(_) | Err(ReadError::NotAFile | ReadError::TooLarge(_)) => {
            let tile = Tile::full(Level::Hashes(0), last).path();
            Err(Failure::of(tile, "it is missing, although the entries that it is about are there").into())
        }
    }
}

/// Looks at all files, as long as a running anchor adds and removes some meanwhile.
fn check_files(log: &Log, edge: &Edge, beginning: Beginning) -> Result<Beside, Broken> {
    let mut tries = 0;
    loop {
        tries += 1;
        let Some(files) = log.source.files()? else { return Ok(Beside::default()) };
        match files::check_files(log, edge, beginning, &files) {
            Err(Broken::Fails(_)) if tries < TRIES => thread::sleep(PAUSE),
            other => return other,
        }
    }
}

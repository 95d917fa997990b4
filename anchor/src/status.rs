//! How an anchor's folder is: how far the log has come, and how long the disk lasts. Everything is read from files, so
//! it can be told beside a running anchor, and without one.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use grid_protocol::message::{Checkpoint, LedgerPurse, LedgerReceipt, Message};
use grid_protocol::seal::Sealed;
use grid_protocol::topic::{Kind, Topic};
use grid_protocol::units::UnixMillis;
use rustix::fs::{FlockOperation, flock, statvfs};
use serde::Serialize;

use crate::bundle::{self, BadBundle};
use crate::checkpoint::{BadCheckpoint, read_unsigned};
use crate::entry::{self, Payload};
use crate::journal::{BadJournal, Records};
use crate::pruning::{dropped_with, minimum_index};
use crate::recorder::{FEW_DAYS, POLICY};
use crate::settings::{DAY, Settings};
use crate::store::in_log;
use crate::tile::{FULL, Level, Tile};

/// Less than this says nothing about a day.
const SHORTEST_SPAN: u64 = 60_000;
/// In milliseconds.
const HOUR: u64 = 3_600_000;
/// So many records in a row may be missing before that is a problem.
const MISSED: u64 = 10;
/// How many bundles are searched for what was said last of the ledger. An anchor repeats it with each checkpoint.
const SEARCHED: u64 = 64;
/// So much later than an interval after the log has begun its first record may come: the ledger takes its time, and what
/// failed is tried again within a minute.
const FIRST_RECORD_TAKES: u64 = 60_000;
/// A disk that is full sooner, in days, is a problem.
const SOON: u64 = 14;
/// How often a folder that changes meanwhile is looked at again.
const TRIES: u32 = 5;

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// There is no log.
    #[error("there is no log in {0}: has the anchor been started with this data_dir?")]
    NoLog(PathBuf),
    /// Something cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The checkpoint does not read.
    #[error("log/checkpoint in data_dir: {0}")]
    Checkpoint(#[from] BadCheckpoint),
    /// The journal does not read.
    #[error("the journal in data_dir: {0}")]
    Journal(#[from] BadJournal),
    /// A bundle does not read.
    #[error("{path} in data_dir: {why}")]
    Bundle {
        /// Which.
        path: String,
        /// What is wrong.
        why: BadBundle,
    },
    /// The folder changed faster than it could be read.
    #[error("the log moves too fast to be read; try again")]
    Moving,
}

/// How an anchor's folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What a person should look at. None: all is well.
    pub problems: Vec<String>,
    /// Whether an anchor runs on the folder.
    pub running: bool,
    /// The log's name.
    pub origin: String,
    /// How many entries are logged.
    pub logged: u64,
    /// How many of them are durable for certain.
    pub durable: u64,
    /// How many of them are under the newest checkpoint.
    pub checkpoint_size: u64,
    /// Its root hash, base64.
    pub root_hash: String,
    /// When it was written.
    pub checkpoint_ms: UnixMillis,
    /// The newest receipt of the ledger, as far as it was found in the log.
    pub receipt: Option<LedgerReceipt>,
    /// By when the first record is to be on the ledger, if there is one and nothing is on it yet.
    pub first_record_ms: Option<UnixMillis>,
    /// What there is to pay records with, likewise.
    pub purse: Option<LedgerPurse>,
    /// The first entry that is not dropped.
    pub minimum_index: u64,
    /// When that was received.
    pub begins_ms: Option<UnixMillis>,
    /// What the folder takes on disk.
    pub disk_bytes: u64,
    /// What the log grows by in a day, measured over its last day, or as much of it as there is.
    pub bytes_per_day: Option<u64>,
    /// How much of the disk is free.
    pub free_bytes: u64,
    /// After how many days entries are dropped; 0: never.
    pub retention_days: u64,
    /// In how many days the disk is full at this rate. None: never, or it is too early to tell.
    pub full_in_days: Option<u64>,
}

/// Whether an anchor runs on this `data_dir`.
pub fn is_running(data_dir: &Path) -> Result<bool, StatusError> {
    Folder { data_dir }.is_locked()
}

impl Status {
    /// Reads it from the `data_dir` of the settings.
    pub fn read(settings: &Settings, now: UnixMillis) -> Result<Self, StatusError> {
        let folder = Folder { data_dir: &settings.data_dir };
        let (head, journal) = folder.head_and_journal(settings)?;
        let first_in_journal = journal.first;
        let Head { origin, size: checkpoint_size, root_hash, written } = head;
        let minimum_index = minimum_index(&folder.path("log")).map_err(unreadable(folder.path("log/tile")))?;
        let bytes_per_day = folder.bytes_per_day(minimum_index / u64::from(FULL), checkpoint_size)?;
        let said = folder.said_of_ledger(journal.said, settings, minimum_index, checkpoint_size)?;
        let OfLedger { receipt, purse } = said;
        let begins_ms = match checkpoint_size {
            0 => None,
            size => first_time(&folder.bundle(minimum_index / u64::from(FULL), size)?),
        };
        let mut status = Self {
            problems: Vec::new(),
            running: folder.is_locked()?,
            origin,
            logged: journal.next.max(checkpoint_size),
            durable: journal.synced.max(checkpoint_size),
            checkpoint_size,
            root_hash,
            checkpoint_ms: written,
            receipt,
            first_record_ms: None,
            purse,
            minimum_index,
            begins_ms,
            disk_bytes: disk_bytes(&settings.data_dir)?,
            bytes_per_day,
            free_bytes: folder.free_bytes()?,
            retention_days: settings.log.retention_days,
            full_in_days: None,
        };
        status.full_in_days = status.full_in_days(now);
        if let (Some(ledger), None) = (&settings.ledger, &status.receipt) {
            // The trail may be younger than the log. As long as nothing is logged, nothing is due.
            let began = begins_ms.or(first_in_journal).map(|began| began.max(folder.trail_made()));
            let takes = ledger.interval().0.saturating_add(FIRST_RECORD_TAKES);
            status.first_record_ms = Some(UnixMillis(began.unwrap_or(now).0.saturating_add(takes)));
        }
        status.look_for_problems(settings, now);
        Ok(status)
    }

    /// That the first record is still to come, and how soon; nothing if there is one, or it is overdue.
    pub fn first_record(&self, now: UnixMillis) -> Option<String> {
        let left = self.first_record_ms?.0.checked_sub(now.0).filter(|left| *left > 0)?.div_ceil(1000);
        let within = if left < 120 { format!("{left} s") } else { format!("{} min", left.div_ceil(60)) };
        Some(match self.logged {
            0 => format!("nothing is logged yet; once something is, the first record comes within {within}"),
            _ => format!("nothing is on the ledger yet: the first record comes within {within}"),
        })
    }

    /// With retention the log grows only until its first entry is old enough.
    fn full_in_days(&self, now: UnixMillis) -> Option<u64> {
        let per_day = self.bytes_per_day.filter(|bytes| *bytes > 0)?;
        let lasts = self.free_bytes / per_day;
        if self.retention_days > 0 {
            let begins = self.begins_ms.unwrap_or(now);
            let grows = (self.retention_days * DAY).saturating_sub(now.0.saturating_sub(begins.0));
            if u128::from(per_day) * u128::from(grows) <= u128::from(self.free_bytes) * u128::from(DAY) {
                return None;
            }
        }
        Some(lasts)
    }

    fn look_for_problems(&mut self, settings: &Settings, now: UnixMillis) {
        let mut note = |is_one: bool, problem: String| {
            if is_one {
                self.problems.push(problem);
            }
        };
        note(!self.running, format!("no anchor runs on {}", settings.data_dir.display()));
        let days = self.full_in_days.unwrap_or(u64::MAX);
        note(
            days < SOON,
            format!("the disk is full in {days} days: lower log.retention_days, or give it a larger disk"),
        );
        let overdue = self.first_record_ms.and_then(|due| now.0.checked_sub(due.0)).filter(|overdue| *overdue > 0);
        note(
            overdue.is_some(),
            format!(
                "nothing is on the ledger, as far as the log says, and the first record was due {} min ago: see the \
                 anchor's journal",
                overdue.unwrap_or_default() / 60_000
            ),
        );
        let Some(ledger) = &settings.ledger else { return };
        if let Some(receipt) = &self.receipt {
            let late = self.checkpoint_ms.0.saturating_sub(receipt.added_ms.0);
            let hours = late / HOUR;
            note(
                late > HOUR.max(ledger.interval().0.saturating_mul(MISSED)),
                format!("the newest record on the ledger is {hours} h older than the log: see the anchor's journal"),
            );
        }
        if let Some(LedgerPurse { address, days_left: Some(days), .. }) = &self.purse {
            note(*days < FEW_DAYS, format!("the money for the ledger lasts for {days} days: send {address} some"));
        }
    }
}

struct Head {
    origin: String,
    size: u64,
    root_hash: String,
    written: UnixMillis,
}

#[derive(Default)]
struct Journal {
    /// When its first entry was received.
    first: Option<UnixMillis>,
    next: u64,
    synced: u64,
    said: OfLedger,
}

/// What the anchor's own messages say of the ledger.
#[derive(Default)]
struct OfLedger {
    receipt: Option<LedgerReceipt>,
    purse: Option<LedgerPurse>,
}

impl OfLedger {
    /// Of an entry, if it is a checkpoint message of the anchor's.
    fn read(entry: &[u8], settings: &Settings) -> Self {
        let said = checkpoint_message(entry, settings);
        said.map_or_else(Self::default, |Checkpoint { receipt, purse, .. }| Self { receipt, purse })
    }

    /// With what older messages said.
    fn or(self, older: Self) -> Self {
        Self { receipt: self.receipt.or(older.receipt), purse: self.purse.or(older.purse) }
    }

    fn is_whole(&self) -> bool {
        self.receipt.is_some() && self.purse.is_some()
    }
}

struct Folder<'a> {
    data_dir: &'a Path,
}

impl Folder<'_> {
    fn path(&self, path: &str) -> PathBuf {
        self.data_dir.join(path)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StatusError> {
        match fs::read(self.path(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(self.path(path))(error)),
        }
    }

    /// When a file was written; long ago if it is not there.
    fn changed(&self, path: &str) -> UnixMillis {
        let changed = fs::metadata(self.path(path)).and_then(|file| file.modified()).unwrap_or(UNIX_EPOCH);
        UnixMillis(changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
    }

    /// When `init` named a trail. An anchor that starts leaves that file alone.
    fn trail_made(&self) -> UnixMillis {
        self.changed(POLICY)
    }

    /// A checkpoint may be written in between; then the journal begins behind the one that was read.
    fn head_and_journal(&self, settings: &Settings) -> Result<(Head, Journal), StatusError> {
        for _ in 0..TRIES {
            let path = "log/checkpoint";
            let note = self.read(path)?.ok_or_else(|| StatusError::NoLog(self.data_dir.to_owned()))?;
            let written = self.changed(path);
            let head = read_unsigned(&note)?.head;
            let journal = File::open(self.path("journal")).map_err(unreadable(self.path("journal")))?;
            let mut records = Records::open(journal)?;
            if records.first_index() > head.size {
                continue;
            }
            let mut journal = Journal::default();
            while let Some(record) = records.read()? {
                journal.first = journal.first.or_else(|| time_of(Some(&record.entry)));
                journal.synced = record.synced;
                journal.said = OfLedger::read(&record.entry, settings).or(journal.said);
            }
            journal.next = records.next_index();
            let head = Head { origin: head.origin, size: head.size, root_hash: head.root.to_string(), written };
            return Ok((head, journal));
        }
        Err(StatusError::Moving)
    }

    /// The entries of a bundle of a log of `size` entries.
    fn bundle(&self, index: u64, size: u64) -> Result<Vec<Vec<u8>>, StatusError> {
        let tile = Level::Entries.tile(index, size).ok_or(StatusError::Moving)?;
        let path = in_log(tile);
        // Retention or a new checkpoint took it away.
        let file = self.read(&path)?.ok_or(StatusError::Moving)?;
        let bad = |why| StatusError::Bundle { path: path.clone(), why };
        let plain = bundle::unpack(&file).map_err(bad)?;
        Ok(bundle::entries(&plain, tile.width).map_err(bad)?.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// What was said last of the ledger, with what the last bundles say if the journal says not all.
    fn said_of_ledger(
        &self,
        mut said: OfLedger,
        settings: &Settings,
        minimum: u64,
        size: u64,
    ) -> Result<OfLedger, StatusError> {
        let (first, end) = (minimum / u64::from(FULL), size.div_ceil(u64::from(FULL)));
        for index in (first.max(end.saturating_sub(SEARCHED))..end).rev() {
            if said.is_whole() {
                break;
            }
            for entry in self.bundle(index, size)?.iter().rev() {
                said = said.or(OfLedger::read(entry, settings));
            }
        }
        Ok(said)
    }

    /// How fast the full bundles of the last day came, with their hashes, and what they take on disk.
    fn bytes_per_day(&self, first: u64, size: u64) -> Result<Option<u64>, StatusError> {
        let Some(newest) = Level::Entries.full_tiles(size).checked_sub(1).filter(|newest| *newest > first) else {
            return Ok(None);
        };
        let time = |index| Ok::<_, StatusError>(last_time(&self.bundle(index, size)?).unwrap_or_default().0);
        let until = time(newest)?;
        // The first bundle that ended within a day before the newest did.
        let (mut low, mut high) = (first, newest);
        while low < high {
            let middle = low + (high - low) / 2;
            if time(middle)? < until.saturating_sub(DAY) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let span = until.saturating_sub(time(low)?);
        if span < SHORTEST_SPAN {
            return Ok(None);
        }
        let taken =
            |tile: Tile| fs::metadata(self.path(&format!("log/{}", tile.path()))).map_or(0, |file| on_disk(&file));
        let bytes: u64 = (low + 1..=newest).flat_map(dropped_with).map(taken).sum();
        Ok(u64::try_from(u128::from(bytes) * u128::from(DAY) / u128::from(span)).ok())
    }

    fn free_bytes(&self) -> Result<u64, StatusError> {
        let disk = statvfs(self.data_dir).map_err(|errno| unreadable(self.data_dir.to_owned())(errno.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Whether somebody has the folder's lock.
    fn is_locked(&self) -> Result<bool, StatusError> {
        let path = self.path("lock");
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(unreadable(path)(error)),
        };
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(unreadable(path)(errno.into())),
        }
    }
}

fn unreadable(path: PathBuf) -> impl FnOnce(io::Error) -> StatusError {
    move |source| StatusError::Unreadable { path, source }
}

/// The anchor's own checkpoint message in an entry.
fn checkpoint_message(entry: &[u8], settings: &Settings) -> Option<Checkpoint> {
    let entry = entry::read(entry).ok()?;
    let topic: Topic = entry.topic.parse().ok()?;
    if topic.kind != Kind::Checkpoint || topic.device != settings.name {
        return None;
    }
    let Payload::Bytes(payload) = &entry.payload else { return None };
    Some(Sealed::parse(payload).ok()?.read::<Message<Checkpoint>>().ok()?.body)
}

fn time_of(entry: Option<&Vec<u8>>) -> Option<UnixMillis> {
    Some(entry::read(entry?).ok()?.received_ms)
}

fn first_time(entries: &[Vec<u8>]) -> Option<UnixMillis> {
    time_of(entries.first())
}

fn last_time(entries: &[Vec<u8>]) -> Option<UnixMillis> {
    time_of(entries.last())
}

/// What a file takes, in blocks of 512 bytes (stat(2), `st_blocks`).
fn on_disk(file: &fs::Metadata) -> u64 {
    file.blocks() * 512
}

/// What a folder takes with all that is in it.
fn disk_bytes(folder: &Path) -> Result<u64, StatusError> {
    let bad = || unreadable(folder.to_owned());
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(bad())? {
        let entry = entry.map_err(bad())?;
        let about = match entry.metadata() {
            Ok(about) => about,
            // The anchor removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(bad()(error)),
        };
        bytes += on_disk(&about);
        if about.is_dir() {
            bytes += match disk_bytes(&entry.path()) {
                Err(StatusError::Unreadable { source, .. }) if source.kind() == ErrorKind::NotFound => 0,
                within => within?,
            };
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;

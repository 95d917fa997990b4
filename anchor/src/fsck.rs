//! Putting a folder in order after a crash, without changing anything that the log says.
//!
//! The anchor's next start needs none of this: it does what must be done itself. But who wants to copy a folder, or asks
//! whether it can still be trusted, gets an answer here. Everything is proven before anything is changed: every byte of the
//! log that is not to be dropped, that the journal continues it, and that what stands beyond the checkpoint stands in the
//! journal too.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use grid_durable::{Durable, DurableError, Stop};
use grid_protocol::units::UnixMillis;
use serde::Serialize;
use tlog_tiles::{Hash, record_hash};

use crate::bundle;
use crate::checkpoint::LogKey;
use crate::intake::Intake;
use crate::journal::Record;
use crate::policy::Policy;
use crate::recorder::POLICY;
use crate::source::{Folder, is_foreign};
use crate::speech::Speakers;
use crate::store::{self, Inspection, KEY, SESSIONS, Store, StoreError};
use crate::tile::{FULL, Level, Tile};
use crate::tree::{Edge, tile_hashes};
use crate::verify::{Questions, VerifyError, verify};

/// Why a folder could not be put in order.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// It cannot be proven consistent. Nothing was changed.
    #[error(
        "{path}: {why}. Nothing was changed. Restore the folder from a copy, or start a new log in another data_dir"
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// It cannot be told.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// It cannot be told.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// Something that a crash left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "left", rename_all = "snake_case")]
pub enum Left {
    /// A file that was being written.
    Unfinished {
        /// Which.
        file: String,
    },
    /// A partial file of an older checkpoint, or its empty folder.
    Superseded {
        /// Which.
        file: String,
    },
    /// A file that was written for a checkpoint that was never signed. The journal has its entries.
    NeverSigned {
        /// Which.
        file: String,
    },
    /// A file of entries that were being dropped.
    Dropped {
        /// Which.
        file: String,
    },
    /// A journal that repeats entries which are under the checkpoint.
    OldJournal {
        /// How many.
        entries: u64,
    },
    /// An entry at the journal's end that was never whole, and so never acknowledged.
    TornJournal {
        /// How many bytes of it.
        bytes: u64,
    },
}

impl fmt::Display for Left {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished { file } => write!(out, "{file} was being written"),
            Self::Superseded { file } => write!(out, "{file} is of an older checkpoint"),
            Self::NeverSigned { file } => write!(out, "{file} is of a checkpoint that was never signed"),
            Self::Dropped { file } => write!(out, "{file} is of entries that were being dropped"),
            Self::OldJournal { entries } => {
                write!(out, "journal repeats {entries} entries that are under the checkpoint")
            }
            Self::TornJournal { bytes } => write!(out, "journal ends in {bytes} bytes that are no whole entry"),
        }
    }
}

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many entries are under the checkpoint; none if no log was begun.
    pub checkpoint_size: u64,
    /// The checkpoint's root hash, base64; absent if no log was begun.
    pub root_hash: Option<String>,
    /// How many entries in the journal are not under it.
    pub in_journal: u64,
    /// What a crash left.
    pub left: Vec<Left>,
    /// Whether that was put in order.
    pub done: bool,
}

/// Proves that the anchor's folder holds a log that can go on, and, unless `only_look`, does what a crash left to do.
pub fn fsck(data_dir: &Path, only_look: bool) -> Result<Report, FsckError> {
    let durable = Durable::look(data_dir)?;
    let mut left: Vec<Left> = Vec::new();
    left.extend(durable.unfinished()?.into_iter().map(|name| Left::Unfinished { file: format!("unfinished/{name}") }));
    let policy = read_policy(&durable)?;
    let key = read_key(&durable, policy.as_ref())?;
    let inspection = match &key {
        Some(key) => store::inspect(&durable, key).map_err(refused)?,
        None => None,
    };
    let mut dropped = 0;
    if let Some(found) = &inspection {
        let intended = intended_minimum(&durable, policy.as_ref(), found)?;
        dropped = check_log(&durable, policy.as_ref(), intended)? / u64::from(FULL);
        left.extend(files_left(&durable, found, dropped)?);
        let repeated = found.head.size - found.journal_first;
        left.extend((repeated > 0).then_some(Left::OldJournal { entries: repeated }));
        left.extend((found.torn > 0).then_some(Left::TornJournal { bytes: found.torn }));
    }
    let done = !only_look && !left.is_empty();
    let report = Report {
        checkpoint_size: inspection.as_ref().map_or(0, |found| found.head.size),
        root_hash: inspection.as_ref().map(|found| found.head.root.to_string()),
        in_journal: inspection.as_ref().map_or(0, |found| found.next - found.head.size),
        left,
        done,
    };
    if done {
        put_in_order(durable.work(Stop::never())?, key.filter(|_| inspection.is_some()), &report.left, dropped)?;
    }
    Ok(report)
}

fn put_in_order(mut durable: Durable, key: Option<LogKey>, left: &[Left], dropped: u64) -> Result<(), FsckError> {
    for left in left {
        match left {
            Left::Superseded { file } | Left::NeverSigned { file } if file.ends_with(".p") => {
                durable.remove_if_empty(file)?;
            }
            Left::Superseded { file } | Left::NeverSigned { file } => {
                durable.remove(file)?;
                if let Some((folder, _)) = file.rsplit_once('/').filter(|(folder, _)| folder.ends_with(".p")) {
                    durable.remove_if_empty(folder)?;
                }
            }
            // This the store does, in its order; the rest a start.
            Left::Dropped { .. } | Left::Unfinished { .. } | Left::OldJournal { .. } | Left::TornJournal { .. } => {}
        }
    }
    if let Some(key) = key {
        let (mut store, _) = Store::open(durable, key).map_err(refused)?;
        let first = store.first_remains().map_err(refused)?;
        store.drop_bundles(first..dropped).map_err(refused)?;
    }
    Ok(())
}

fn refused(error: StoreError) -> FsckError {
    match error {
        StoreError::Durable(error) => FsckError::Durable(error),
        StoreError::Inconsistent { path, why } => FsckError::Refused { path, why: why.to_string() },
        StoreError::Key { path, why } => FsckError::Refused { path, why: why.to_string() },
        StoreError::OtherOrigin { ref path, .. } => FsckError::Refused { path: path.clone(), why: error.to_string() },
    }
}

fn refuse(durable: &Durable, file: &str, why: impl fmt::Display) -> FsckError {
    FsckError::Refused { path: durable.path(file), why: why.to_string() }
}

fn read_policy(durable: &Durable) -> Result<Option<Policy>, FsckError> {
    let Some(bytes) = durable.read(POLICY)? else { return Ok(None) };
    Policy::read(&String::from_utf8_lossy(&bytes)).map(Some).map_err(|why| refuse(durable, POLICY, why))
}

/// Without a key no log was begun, unless there is something of one.
fn read_key(durable: &Durable, policy: Option<&Policy>) -> Result<Option<LogKey>, FsckError> {
    let Some(bytes) = durable.read(KEY)? else {
        let begun = policy.is_some() || !durable.names_in("log")?.is_empty() || durable.exists("journal")?;
        return if begun { Err(refuse(durable, KEY, "it is missing")) } else { Ok(None) };
    };
    let key = LogKey::read(&String::from_utf8_lossy(&bytes)).map_err(|why| refuse(durable, KEY, why))?;
    if policy.is_some_and(|policy| policy.log.vkey() != key.public().vkey()) {
        return Err(refuse(durable, POLICY, "it vouches for another key than that in log.key"));
    }
    Ok(Some(key))
}

/// Everything holds that is under the checkpoint and is not to be dropped. Returns where that begins.
fn check_log(durable: &Durable, policy: Option<&Policy>, begins_at: Option<u64>) -> Result<u64, FsckError> {
    let questions = Questions { policy, begins_at, ..Questions::default() };
    let (report, _) = verify(&Folder::new(durable.path("log")), &questions)?;
    match report.failure {
        Some(failure) => Err(refuse(durable, &format!("log/{}", failure.file), &failure)),
        None => Ok(report.minimum_index),
    }
}

/// Reads what the intake knew. It says which entries were being dropped, once the checkpoint covers what is said again of
/// them: then whatever is still there of them may go, and nothing else may be missing.
fn intended_minimum(durable: &Durable, policy: Option<&Policy>, found: &Inspection) -> Result<Option<u64>, FsckError> {
    let (Some(policy), Some(snapshot)) = (policy, &found.snapshot) else { return Ok(None) };
    let speakers = Speakers::new(policy.site.clone(), policy.authority.clone());
    let restored = Intake::restore(speakers, &snapshot.bytes, snapshot.size, UnixMillis(0));
    let intended = restored.map_err(|why| refuse(durable, SESSIONS, why))?.minimum_index();
    // The newest bundle always stays.
    if intended > 0 && intended / u64::from(FULL) >= found.head.size.div_ceil(u64::from(FULL)) {
        return Err(refuse(durable, SESSIONS, "it wants to drop entries that are not there yet"));
    }
    Ok((snapshot.size <= found.head.size).then_some(intended))
}

/// The log's files that are not those of its checkpoint.
fn files_left(durable: &Durable, found: &Inspection, dropped: u64) -> Result<Vec<Left>, FsckError> {
    let size = found.head.size;
    let beyond = Beyond::read(durable, found)?;
    let mut left = Vec::new();
    let mut folders = vec!["tile".to_owned()];
    while let Some(folder) = folders.pop() {
        let mut names = durable.names_in(&format!("log/{folder}"))?;
        names.retain(|name| !is_foreign(name));
        names.sort();
        if names.is_empty() && folder.ends_with(".p") {
            left.push(Left::Superseded { file: format!("log/{folder}") });
        }
        for name in names {
            let path = format!("{folder}/{name}");
            let Some(tile) = Tile::from_path(&path) else {
                folders.push(path);
                continue;
            };
            let file = format!("log/{path}");
            if tile.needs_size() > size {
                beyond.check(durable, &file, tile)?;
                left.push(Left::NeverSigned { file });
            } else if matches!(tile.level, Level::Entries | Level::Hashes(0)) && tile.index < dropped {
                left.push(Left::Dropped { file });
            } else if !tile.is_full() && tile.level.partial_tile(size) != Some(tile) {
                left.push(Left::Superseded { file });
            }
        }
    }
    Ok(left)
}

/// The tree that the journal makes of the checkpoint's. A file of it may go, since the journal has its entries.
struct Beyond {
    edge: Edge,
    full: BTreeMap<(Level, u64), Vec<Hash>>,
}

impl Beyond {
    fn read(durable: &Durable, found: &Inspection) -> Result<Self, FsckError> {
        let mut beyond = Self { edge: found.edge.clone(), full: BTreeMap::new() };
        let add = |record: Record| {
            let Self { edge, full } = &mut beyond;
            edge.push(record_hash(&record.entry), |tile, hashes| {
                full.insert((tile.level, tile.index), hashes.to_vec());
            });
        };
        store::replay(durable, found.head.size, add).map_err(refused)?;
        Ok(beyond)
    }

    fn check(&self, durable: &Durable, file: &str, tile: Tile) -> Result<(), FsckError> {
        let bytes = durable.read(file)?.ok_or_else(|| refuse(durable, file, "it is missing"))?;
        let (level, hashes) = match tile.level {
            Level::Hashes(level) => {
                let hashes = tile_hashes(&bytes, tile.width);
                (level, hashes.ok_or_else(|| refuse(durable, file, "its length does not fit its name"))?)
            }
            Level::Entries => {
                let plain = bundle::unpack(&bytes).map_err(|why| refuse(durable, file, why))?;
                let entries = bundle::entries(&plain, tile.width).map_err(|why| refuse(durable, file, why))?;
                (0, entries.into_iter().map(record_hash).collect())
            }
        };
        let expected = match self.full.get(&(Level::Hashes(level), tile.index)) {
            Some(hashes) => hashes,
            None if tile.index == Level::Hashes(level).full_tiles(self.edge.size()) => self.edge.partial(level),
            None => &[],
        };
        if expected.starts_with(&hashes) {
            Ok(())
        } else {
            Err(refuse(durable, file, "it is beyond the checkpoint, but not what the journal's entries give"))
        }
    }
}

#[cfg(test)]
mod tests;

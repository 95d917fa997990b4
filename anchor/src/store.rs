//! The log on disk: journal, tiles, checkpoint, and the order in which they are written.
//!
//! ```text
//! <data_dir>/lock       held while the store is open
//!            journal    entries since the last checkpoint
//!            sessions   what the intake knew at a checkpoint
//!            log/checkpoint, log/tile/…   the log as others read it
//! ```
//!
//! An entry is appended to the journal; once the journal is synced ([`Store::sync`]) it may be acknowledged. A
//! checkpoint ([`Store::checkpoint`]) moves what the journal holds under a signed head, in this order, each step durable
//! before the next:
//!
//! 1. bundles and tiles, full ones once and for all, partial ones for this head
//! 2. the snapshot of the intake
//! 3. the checkpoint
//! 4. removal of partial files that the new ones supersede
//! 5. a new, empty journal
//!
//! A kill between any two leaves a journal that repeats some of what the tiles hold already. [`Store::open`] proves that
//! the right edge of the tiles gives the root of the checkpoint, and that the journal continues it, and otherwise refuses.
//! Then it does what is left of 4 and 5. Files of a checkpoint that was never signed are removed: the journal has their
//! entries.
//!
//! Old entries can be dropped (`dropping`).
//!
//! The journal that a start finds is written anew, since what the system shows of it need not be on the disk: after a
//! failed sync Linux takes what it could not write for written, so that a later sync of the same file succeeds without it.

mod dropping;
mod finish;
mod reading;

use std::io;
use std::path::PathBuf;

use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;
use tlog_tiles::{Hash, record_hash};
use zeroize::Zeroizing;

use crate::bundle::{self, BadBundle};
use crate::checkpoint::{BadCheckpoint, BadKey, Head, LogKey};
use crate::entry::{self, BadEntry};
use crate::journal::{self, BadJournal, Record, Records, Standing};
use crate::tile::{FULL, Level, Tile};
use crate::tree::{Edge, tile_bytes};
use finish::{carry_over, remove_superseded};
use grid_durable::{Appendable, Durable, DurableError};
use reading::{Scan, read_edge, read_snapshot, scan_journal, snapshot_file};

pub(crate) const CHECKPOINT: &str = "log/checkpoint";
const JOURNAL: &str = "journal";
pub(crate) const SESSIONS: &str = "sessions";
/// The file with the log's key.
pub const KEY: &str = "log.key";
/// What is appended is handed to the system at the latest when it is this long.
const BUFFER: usize = 256 * 1024;

/// Why the store cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be written or read.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// What is on disk does not fit together.
    #[error(
        "refusing to go on from {path}: {why}. Restore the folder from a copy, or start a new log in another data_dir"
    )]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: Inconsistency,
    },
    /// The log's key cannot be used.
    #[error("cannot use {path}: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: BadKey,
    },
    /// The configuration names another log.
    #[error("{path} is the key of {found}, but [log] origin says {configured}: an origin cannot change")]
    OtherOrigin {
        /// The file.
        path: PathBuf,
        /// The origin that the key has.
        found: String,
        /// The origin that is configured.
        configured: String,
    },
}

/// What does not fit together in the folder.
#[derive(Debug, thiserror::Error)]
pub enum Inconsistency {
    /// A file is not there.
    #[error("it is missing")]
    Missing,
    /// The checkpoint is not this log's.
    #[error(transparent)]
    Checkpoint(#[from] BadCheckpoint),
    /// A bundle does not read.
    #[error(transparent)]
    Bundle(#[from] BadBundle),
    /// An entry does not read.
    #[error(transparent)]
    Entry(#[from] BadEntry),
    /// The journal does not read.
    #[error(transparent)]
    Journal(#[from] BadJournal),
    /// A tile does not hold what its name says.
    #[error("it does not hold {0} hashes of 32 bytes")]
    Tile(u16),
    /// Entries or hashes below do not give these hashes.
    #[error("it does not fit the hashes one level above")]
    Hashes,
    /// The right edge does not give the checkpoint's root.
    #[error("the tiles at the right edge do not give its root")]
    Root,
    /// The journal belongs elsewhere.
    #[error("it does not continue the log of {0} entries that the checkpoint vouches for")]
    Continues(u64),
    /// The snapshot belongs elsewhere or is damaged.
    #[error("it is damaged, or it does not belong to a log of {0} entries")]
    Snapshot(u64),
}

/// A log that can grow.
pub struct Store {
    durable: Durable,
    key: LogKey,
    /// The tree under the last checkpoint.
    edge: Edge,
    /// The entries of its partial bundle.
    edge_entries: Vec<Vec<u8>>,
    journal: Appendable,
    next: u64,
    synced: u64,
    buffer: Vec<u8>,
    /// The index of the first entry that is not dropped.
    minimum: u64,
}

/// What the intake knew when a snapshot was taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How many entries it had seen.
    pub size: u64,
    /// What it knew.
    pub bytes: Vec<u8>,
}

/// What a folder holds.
pub struct Inspection {
    /// What the checkpoint vouches for.
    pub head: Head,
    /// The tree under it.
    pub edge: Edge,
    /// The first entry in the journal.
    pub journal_first: u64,
    /// The entry that would be the next.
    pub next: u64,
    /// How many bytes at the journal's end are torn, and stand for nothing that was ever acknowledged.
    pub torn: u64,
    /// What the intake knew.
    pub snapshot: Option<Snapshot>,
}

/// Proves that what is in a folder fits together, as [`Store::open`] does, and changes nothing. `None`: no log was begun.
pub fn inspect(durable: &Durable, key: &LogKey) -> Result<Option<Inspection>, StoreError> {
    let Some(note) = durable.read(CHECKPOINT)? else {
        return nothing_remains(durable).map(|()| None);
    };
    let head = key.public().open(&note).map_err(|why| refuse(durable, CHECKPOINT, why))?;
    let (edge, edge_entries) = read_edge(durable, &head)?;
    if head.size == 0 && !durable.exists(JOURNAL)? {
        return Ok(None);
    }
    let Scan { first: journal_first, next, length, .. } = scan_journal(durable, &edge, &edge_entries)?;
    let whole = io::copy(&mut durable.reader(JOURNAL)?, &mut io::sink());
    let whole = whole.map_err(|error| refuse(durable, JOURNAL, BadJournal::from(error)))?;
    let snapshot = read_snapshot(durable, head.size..=next)?;
    Ok(Some(Inspection { head, edge, journal_first, next, torn: whole - length, snapshot }))
}

/// Reads the journal's entries from index `from` on.
pub fn replay(durable: &Durable, from: u64, mut each: impl FnMut(Record)) -> Result<(), StoreError> {
    let bad = |why: BadJournal| refuse(durable, JOURNAL, why);
    let mut records = Records::open(durable.reader(JOURNAL)?).map_err(bad)?;
    while let Some(record) = records.read().map_err(bad)? {
        if record.index >= from {
            each(record);
        }
    }
    Ok(())
}

/// Reads the log's key, or draws one at the first start.
pub fn read_or_make_key(durable: &mut Durable, site: &Name, origin: Option<&str>) -> Result<LogKey, StoreError> {
    let path = durable.path(KEY);
    let Some(key) = read_key(durable)? else {
        let key = LogKey::generate(site, origin).map_err(|why| StoreError::Key { path, why })?;
        durable.place_secret(KEY, key.to_line().as_bytes())?;
        durable.settle()?;
        return Ok(key);
    };
    match origin {
        Some(configured) if configured != key.origin() => {
            Err(StoreError::OtherOrigin { path, found: key.origin().to_owned(), configured: configured.to_owned() })
        }
        _ => Ok(key),
    }
}

/// Reads the log's key, if there is one.
pub(crate) fn read_key(durable: &Durable) -> Result<Option<LogKey>, StoreError> {
    let Some(bytes) = durable.read(KEY)?.map(Zeroizing::new) else { return Ok(None) };
    let key = LogKey::read(&String::from_utf8_lossy(&bytes));
    key.map(Some).map_err(|why| StoreError::Key { path: durable.path(KEY), why })
}

impl Store {
    /// Opens the log in a folder, or starts an empty one. Proves that what is there fits together.
    pub fn open(mut durable: Durable, key: LogKey) -> Result<(Self, Option<Snapshot>), StoreError> {
        let head = match durable.read(CHECKPOINT)? {
            Some(note) => key.public().open(&note).map_err(|why| refuse(&durable, CHECKPOINT, why))?,
            None => start_empty(&mut durable, &key)?,
        };
        let (edge, edge_entries) = read_edge(&durable, &head)?;
        if head.size == 0 && !durable.exists(JOURNAL)? {
            durable.place(JOURNAL, &journal::header(0, edge.root()))?;
            durable.settle()?;
        }
        let scan = scan_journal(&durable, &edge, &edge_entries)?;
        let snapshot = read_snapshot(&durable, head.size..=scan.next)?;
        // A predecessor may have been killed before its name was durable, and what follows takes the one before for gone.
        if let Some(note) = durable.read(CHECKPOINT)? {
            durable.place(CHECKPOINT, &note)?;
            durable.settle()?;
        }
        remove_superseded(&mut durable, scan.first, head.size, scan.next)?;
        let journal = carry_over(&mut durable, &edge, &scan)?;
        let next = scan.next;
        let minimum = dropping::minimum_index(&durable)?;
        let store = Self { durable, key, edge, edge_entries, journal, next, synced: next, buffer: Vec::new(), minimum };
        Ok((store, snapshot))
    }

    /// The log's key.
    pub fn key(&self) -> &LogKey {
        &self.key
    }

    /// How many entries the log has, durable or not.
    pub fn size(&self) -> u64 {
        self.next
    }

    /// How many of them are durable.
    pub fn durable_size(&self) -> u64 {
        self.synced
    }

    /// How many of them are under the last checkpoint.
    pub fn checkpoint_size(&self) -> u64 {
        self.edge.size()
    }

    /// Size and root under the last checkpoint.
    pub fn head(&self) -> (u64, Hash) {
        (self.edge.size(), self.edge.root())
    }

    /// How many bytes may still be written on the disk.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.durable.free_bytes()?)
    }

    /// When an entry under the last checkpoint was received.
    pub fn received_at(&self, index: u64) -> Result<UnixMillis, StoreError> {
        let size = self.edge.size();
        let (bundle, place) = (index / u64::from(FULL), (index % u64::from(FULL)) as usize);
        let tile = Level::Entries.tile(bundle, size).unwrap_or_else(|| Tile::full(Level::Entries, bundle));
        let path = in_log(tile);
        let bad = |why: Inconsistency| refuse(&self.durable, &path, why);
        let file = self.durable.read(&path)?.ok_or_else(|| bad(Inconsistency::Missing))?;
        let plain = bundle::unpack(&file).map_err(|why| bad(why.into()))?;
        let entries = bundle::entries(&plain, tile.width).map_err(|why| bad(why.into()))?;
        let entry = entries.get(place).ok_or_else(|| bad(Inconsistency::Missing))?;
        Ok(entry::read(entry).map_err(|why| bad(why.into()))?.received_ms)
    }

    /// Reads the journal's entries from index `from` on: what the intake learned after its snapshot.
    pub fn replay(&self, from: u64, each: impl FnMut(Record)) -> Result<(), StoreError> {
        replay(&self.durable, from, each)
    }

    /// Appends an entry. It is durable after the next [`Self::sync`].
    pub fn append(&mut self, standing: Standing, entry: Vec<u8>) -> Result<u64, StoreError> {
        let index = self.next;
        Record { index, synced: self.synced, standing, entry }.write(&mut self.buffer);
        self.next += 1;
        if self.buffer.len() >= BUFFER {
            self.hand_over()?;
        }
        Ok(index)
    }

    fn hand_over(&mut self) -> Result<(), StoreError> {
        if !self.buffer.is_empty() {
            self.durable.append(&mut self.journal, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Makes all that was appended durable.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.synced < self.next {
            self.hand_over()?;
            self.durable.sync(&mut self.journal)?;
            self.synced = self.next;
        }
        Ok(())
    }

    /// Puts everything under a new signed head, with what the intake knows now. Returns the head and the signed note.
    pub fn checkpoint(&mut self, snapshot: &[u8]) -> Result<(Head, Vec<u8>), StoreError> {
        self.sync()?;
        let (edge, entries) = self.write_tiles()?;
        self.durable.settle()?;

        self.durable.place(SESSIONS, &snapshot_file(self.next, snapshot))?;
        self.durable.settle()?;

        let head = Head { origin: self.key.origin().to_owned(), size: self.next, root: edge.root() };
        let note = self.key.sign(head.size, head.root).map_err(|why| refuse(&self.durable, CHECKPOINT, why))?;
        self.durable.place(CHECKPOINT, &note)?;
        self.durable.settle()?;
        let before = std::mem::replace(&mut self.edge, edge).size();
        self.edge_entries = entries;

        remove_superseded(&mut self.durable, before, head.size, head.size)?;

        self.durable.place(JOURNAL, &journal::header(head.size, head.root))?;
        self.durable.settle()?;
        self.journal = self.durable.open_appendable(JOURNAL, journal::HEADER as u64)?;
        Ok((head, note))
    }

    /// Writes the tiles and bundles for everything in the journal. Entries come from the file, not from memory: there
    /// may be many.
    fn write_tiles(&mut self) -> Result<(Edge, Vec<Vec<u8>>), StoreError> {
        let mut edge = self.edge.clone();
        let mut entries = self.edge_entries.clone();
        let journal = self.durable.path(JOURNAL);
        let bad = |why: BadJournal| StoreError::Inconsistent { path: journal.clone(), why: why.into() };
        let mut records = Records::open(self.durable.reader(JOURNAL)?).map_err(bad)?;
        while let Some(record) = records.read().map_err(bad)? {
            if record.index < edge.size() {
                continue;
            }
            let mut filled = Vec::new();
            edge.push(record_hash(&record.entry), |tile, hashes| filled.push((tile, tile_bytes(hashes))));
            entries.push(record.entry);
            if entries.len() == usize::from(FULL) {
                let tile = Tile::full(Level::Entries, Level::Entries.full_tiles(edge.size()) - 1);
                self.place(tile, &bundle::pack(entries.iter().map(Vec::as_slice)))?;
                entries.clear();
            }
            for (tile, bytes) in filled {
                self.place(tile, &bytes)?;
            }
        }
        if edge.size() != self.next {
            return Err(refuse(&self.durable, JOURNAL, Inconsistency::Continues(self.next)));
        }
        let size = self.next;
        for tile in Level::of(size).filter_map(|level| level.partial_tile(size)) {
            let bytes = match tile.level {
                Level::Entries => bundle::pack(entries.iter().map(Vec::as_slice)),
                Level::Hashes(level) => tile_bytes(edge.partial(level)),
            };
            self.place(tile, &bytes)?;
        }
        Ok((edge, entries))
    }

    fn place(&mut self, tile: Tile, bytes: &[u8]) -> Result<(), StoreError> {
        Ok(self.durable.place(&in_log(tile), bytes)?)
    }
}

/// Where a tile lies, relative to the anchor's folder.
pub(crate) fn in_log(tile: Tile) -> String {
    format!("log/{}", tile.path())
}

fn refuse(durable: &Durable, path: &str, why: impl Into<Inconsistency>) -> StoreError {
    StoreError::Inconsistent { path: durable.path(path), why: why.into() }
}

/// A folder without a checkpoint is the start of a log, unless something else of a log is there.
fn start_empty(durable: &mut Durable, key: &LogKey) -> Result<Head, StoreError> {
    nothing_remains(durable)?;
    let root = Edge::default().root();
    let note = key.sign(0, root).map_err(|why| refuse(durable, CHECKPOINT, why))?;
    durable.place(CHECKPOINT, &note)?;
    durable.settle()?;
    Ok(Head { origin: key.origin().to_owned(), size: 0, root })
}

fn nothing_remains(durable: &Durable) -> Result<(), StoreError> {
    let remains = !durable.names_in("log")?.is_empty();
    if remains || durable.exists(JOURNAL)? || durable.exists(SESSIONS)? {
        return Err(refuse(durable, CHECKPOINT, Inconsistency::Missing));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

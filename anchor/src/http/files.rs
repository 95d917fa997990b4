//! What is read from the log's folder for a request, and nothing else is ever read.
//!
//! The folder changes while it is read: a checkpoint replaces the one before, and partial tiles that it supersedes are
//! removed. So a file that should be there and is not is looked for again under the newest checkpoint.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::SystemTime;
use std::{fs, io};

use crate::bundle::{self, BadBundle};
use crate::checkpoint::{BadCheckpoint, read_unsigned};
use crate::store::in_log;
use crate::tile::{Level, Tile};

/// How often a tile is looked for while checkpoints go by.
const TRIES: u32 = 4;

/// The folder of a log that may be growing.
#[derive(Clone, Debug)]
pub struct Files {
    data_dir: PathBuf,
}

/// A checkpoint as it lies on disk.
#[derive(Clone, Debug)]
pub struct CheckpointFile {
    /// The signed note.
    pub note: Vec<u8>,
    /// When it was written.
    pub written: SystemTime,
}

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    /// The newest checkpoint does not cover it.
    #[error("it is beyond the checkpoint, which covers {0} entries")]
    Beyond(u64),
    /// It was there once, or something is wrong.
    #[error("it is not there: the log drops what is older than its retention time")]
    Gone,
    /// It does not read.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// Which.
        path: String,
        /// How.
        why: Damage,
    },
    /// The system does not let us.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// What is wrong with a file of the log.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] BadCheckpoint),
    /// Not a bundle.
    #[error(transparent)]
    Bundle(#[from] BadBundle),
    /// Not a tile.
    #[error("it has {0} bytes")]
    Length(usize),
}

impl Files {
    /// The log in an anchor's `data_dir`.
    pub fn new(data_dir: PathBuf) -> Self {
        Self { data_dir }
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, NotServed> {
        match fs::read(self.data_dir.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(source) => Err(NotServed::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// The newest checkpoint.
    pub fn checkpoint(&self) -> Result<CheckpointFile, NotServed> {
        let path = "log/checkpoint";
        let note = self.read(path)?.ok_or(NotServed::Gone)?;
        // It is replaced as a whole, so a newer date than content is possible, but does no harm.
        let written = fs::metadata(self.data_dir.join(path)).and_then(|file| file.modified());
        Ok(CheckpointFile { note, written: written.unwrap_or(SystemTime::UNIX_EPOCH) })
    }

    /// The site's policy.
    pub fn policy(&self) -> Result<Vec<u8>, NotServed> {
        self.read(crate::recorder::POLICY)?.ok_or(NotServed::Gone)
    }

    /// How long the journal is, in bytes.
    pub fn journal_length(&self) -> u64 {
        fs::metadata(self.data_dir.join("journal")).map_or(0, |file| file.len())
    }

    /// Where the log's first entry that is still there stands.
    pub fn minimum_index(&self) -> io::Result<u64> {
        crate::pruning::minimum_index(&self.data_dir.join("log"))
    }

    /// A tile or bundle that the newest checkpoint covers. A partial one of any size before that is the beginning of
    /// what stands there now (tlog-tiles, section Partial Tiles).
    pub fn tile(&self, tile: Tile) -> Result<Vec<u8>, NotServed> {
        let mut before = None;
        for _ in 0..TRIES {
            let size = self.size()?;
            if tile.needs_size() > size {
                return Err(NotServed::Beyond(size));
            }
            if let Some(bytes) = self.read(&in_log(tile))? {
                return Ok(bytes);
            }
            if let Some(wider) = tile.wider(size)
                && let Some(bytes) = self.read(&in_log(wider))?
            {
                return cut(tile, wider, bytes).map_err(|why| NotServed::Damaged { path: in_log(wider), why });
            }
            if before == Some(size) {
                break;
            }
            before = Some(size);
        }
        Err(NotServed::Gone)
    }

    fn size(&self) -> Result<u64, NotServed> {
        let CheckpointFile { note, .. } = self.checkpoint()?;
        let damaged = |why: BadCheckpoint| NotServed::Damaged { path: "log/checkpoint".to_owned(), why: why.into() };
        Ok(read_unsigned(&note).map_err(damaged)?.head.size)
    }
}

/// The first hashes or entries of a wider tile.
fn cut(tile: Tile, wider: Tile, bytes: Vec<u8>) -> Result<Vec<u8>, Damage> {
    match tile.level {
        Level::Entries => {
            let plain = bundle::unpack(&bytes)?;
            let entries = bundle::entries(&plain, wider.width)?;
            Ok(bundle::pack(entries.into_iter().take(tile.width.into())))
        }
        Level::Hashes(_) => {
            let (whole, kept) = (usize::from(wider.width) * 32, usize::from(tile.width) * 32);
            if bytes.len() == whole { Ok(bytes[..kept].to_vec()) } else { Err(Damage::Length(bytes.len())) }
        }
    }
}

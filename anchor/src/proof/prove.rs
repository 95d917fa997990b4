//! Making a proof: it takes the few tiles on the way from the leaf to the root, and the bundle with the entry.

use std::cell::RefCell;

use tlog_tiles::{Error, Tile as HashTile, TileHashReader, TileReader, check_record, prove_record, record_hash};

use super::Proof;
use crate::bundle;
use crate::checkpoint::{BadCheckpoint, read_unsigned};
use crate::source::{FileError, ReadError, Source, SourceError, dropped_bundles, read_bundle, read_hashes};
use crate::tile::{FULL, Level, Tile};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The checkpoint cannot be read.
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] BadCheckpoint),
    /// The checkpoint does not cover the entry.
    #[error("entry {index} is not under this checkpoint of {size} entries: wait for the next one")]
    NotCovered {
        /// Which.
        index: u64,
        /// How many it covers.
        size: u64,
    },
    /// Retention dropped the entry.
    #[error("entry {index} was dropped: the log holds entries from {first} on, so only a proof made before helps")]
    Dropped {
        /// Which.
        index: u64,
        /// The first that is there.
        first: u64,
    },
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The files do not fit together.
    #[error("the log's files do not fit its checkpoint ({0}): grid-anchor verify names what does not hold")]
    Inconsistent(Error),
    /// It cannot be told what the log holds.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Proves that the entry at `index` stands in the log under this checkpoint, whose signature is not looked at. Reads
/// only the tiles that are needed. The proof is without certificate: [`super::find()`] finds it.
pub fn prove(log: &dyn Source, checkpoint: &[u8], index: u64) -> Result<Proof, ProveError> {
    let head = read_unsigned(checkpoint)?.head;
    let size = head.size;
    if index >= size {
        return Err(ProveError::NotCovered { index, size });
    }
    let tiles = Tiles { log, failed: RefCell::new(None) };
    let hashes = TileHashReader::new(size, head.root, &tiles);
    let path = match prove_record(size, index, &hashes) {
        Ok(path) => path,
        Err(error) => {
            return Err(match tiles.failed.into_inner() {
                Some((tile, why)) => unreadable(log, size, index, tile, why),
                None => ProveError::Inconsistent(error),
            });
        }
    };
    let tile = Level::Entries.tile(index / u64::from(FULL), size).ok_or(ProveError::NotCovered { index, size })?;
    let plain = match read_bundle(log, tile) {
        Err(FileError::Read { why, .. }) => return Err(unreadable(log, size, index, tile, why)),
        other => other?.plain,
    };
    let bad = |why| FileError::Bundle { path: tile.path(), why };
    let entry = bundle::entries(&plain, tile.width).map_err(bad)?[(index % u64::from(FULL)) as usize].to_vec();
    check_record(&path, size, head.root, index, record_hash(&entry)).map_err(ProveError::Inconsistent)?;
    Ok(Proof { entry, certificate: None, index, path, checkpoint: checkpoint.to_vec() })
}

fn unreadable(log: &dyn Source, size: u64, index: u64, tile: Tile, why: ReadError) -> ProveError {
    let may_be_dropped = matches!(why, ReadError::Missing) && matches!(tile.level, Level::Entries | Level::Hashes(0));
    if may_be_dropped {
        match dropped_bundles(log, size) {
            Ok(dropped) if tile.index < dropped => {
                return ProveError::Dropped { index, first: dropped * u64::from(FULL) };
            }
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
    FileError::Read { path: tile.path(), why }.into()
}

/// The log's tiles as `tlog_tiles` reads them.
struct Tiles<'a> {
    log: &'a dyn Source,
    failed: RefCell<Option<(Tile, ReadError)>>,
}

impl TileReader for Tiles<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[HashTile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile: &HashTile| {
            let width = u16::try_from(tile.width()).map_err(|_| Error::InvalidTile)?;
            let tile = Tile { level: Level::Hashes(tile.level()), index: tile.level_index(), width };
            read_hashes(self.log, tile).map_err(|why| {
                self.failed.replace(Some((tile, why)));
                Error::InvalidTile
            })
        };
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _: &[HashTile], _: &[Vec<u8>]) {}
}

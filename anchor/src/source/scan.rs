//! Looking for a few entries among many.

use std::ops::ControlFlow;

use super::{ReadError, Source, read_bundle};
use crate::bundle::{self, BadBundle};
use crate::parallel::{cores, in_parallel};
use crate::tile::{FULL, Level, Tile};

/// How many bundles are read at a time.
pub const BATCH: u64 = 64;

/// Why the entries cannot be looked through.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A file cannot be read.
    #[error("{path}: {why}")]
    File {
        /// Which, relative to the log.
        path: String,
        /// What is wrong.
        why: ReadError,
    },
    /// A bundle is none.
    #[error("{path}: {why}")]
    Bundle {
        /// Which, relative to the log.
        path: String,
        /// What is wrong.
        why: BadBundle,
    },
}

/// The bundles of a tree of `size` entries from one on.
pub fn bundles(size: u64, from: u64) -> impl Iterator<Item = Tile> {
    (from..size.div_ceil(u64::from(FULL))).map(move |index| {
        let width = (size - index * u64::from(FULL)).min(u64::from(FULL)) as u16;
        Tile { level: Level::Entries, index, width }
    })
}

/// Goes through the entries from bundle `from` on. `pick` is shown each of them by its index, on all cores; what it
/// picks goes to `take`, in order, until that has enough. Hashes are not looked at.
pub fn scan<T: Send>(
    log: &dyn Source,
    size: u64,
    from: u64,
    pick: impl Fn(u64, &[u8]) -> Option<T> + Sync,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), ScanError> {
    let all: Vec<Tile> = bundles(size, from).collect();
    for batch in all.chunks(BATCH as usize) {
        let read = in_parallel(log.readers(), batch, |tile| {
            let file = |why| ScanError::File { path: tile.path(), why };
            let plain = read_bundle(log, *tile).map_err(file)?.0;
            plain.map(|plain| (*tile, plain)).map_err(|why| ScanError::Bundle { path: tile.path(), why })
        });
        let read: Vec<(Tile, Vec<u8>)> = read.into_iter().collect::<Result<_, _>>()?;
        let picked = in_parallel(cores(), &read, |(tile, plain)| {
            let entries = bundle::entries(plain, tile.width);
            let entries = entries.map_err(|why| ScanError::Bundle { path: tile.path(), why })?;
            let numbered = (tile.index * u64::from(FULL)..).zip(entries);
            Ok(numbered.filter_map(|(index, entry)| pick(index, entry)).collect::<Vec<T>>())
        });
        for picked in picked {
            for item in picked? {
                if take(item).is_break() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

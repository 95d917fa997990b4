//! Looking for a few entries among many.

use std::ops::ControlFlow;

use super::{ReadError, Source, read_bundle};
use crate::bundle::{self, BadBundle};
use crate::parallel::{cores, in_parallel};
use crate::tile::{FULL, Level, Tile};

/// How many bundles are read at a time.
const BATCH: usize = 64;

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

/// The bundles of a tree of `size` entries from one on, a batch at a time. However large a checkpoint says that the tree
/// is, only one batch is in memory.
pub fn batches(size: u64, from: u64) -> impl Iterator<Item = Vec<Tile>> {
    let mut rest = bundles(size, from);
    std::iter::from_fn(move || {
        let batch: Vec<Tile> = rest.by_ref().take(BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

/// The bundles of a tree of `size` entries from one on.
pub fn bundles(size: u64, from: u64) -> impl Iterator<Item = Tile> {
    (from..size.div_ceil(u64::from(FULL))).filter_map(move |index| Level::Entries.tile(index, size))
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
    for batch in batches(size, from) {
        let read = in_parallel(log.readers(), &batch, |tile| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_gone_through_a_batch_at_a_time_and_may_be_of_any_size() {
        let sizes = |size, from| batches(size, from).map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!(sizes(0, 0), [0; 0]);
        assert_eq!(sizes(257, 0), [2]);
        assert_eq!(sizes(64 * 256, 0), [64]);
        assert_eq!(sizes(64 * 256 + 1, 0), [64, 1]);
        assert_eq!(sizes(64 * 256 + 1, 60), [5]);
        assert_eq!(batches(u64::MAX, 0).next().map(|batch| batch.len()), Some(64));
    }
}

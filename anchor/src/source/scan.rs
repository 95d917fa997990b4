//! Going through the bundles of a log, many at a time, in bounded memory: however large a checkpoint says that the tree is,
//! and however well what a server sends is compressed.

use std::ops::ControlFlow;

use super::{FileError, Source, read_bundle_at_most};
use crate::bundle;
use crate::parallel::{cores, in_parallel};
use crate::tile::{FULL, Level, Tile};

/// How many bundles are read at a time.
const BATCH: usize = 64;
/// How many bytes the entries of a batch have at most, unless it is a single bundle.
const IN_MEMORY: usize = 32 << 20;
/// A bundle whose entries have more is read alone. One of messages as devices send them has a third of it.
const SHARE: usize = IN_MEMORY / BATCH;

/// The bundles of a tree of `size` entries from one on.
pub fn bundles(size: u64, from: u64) -> impl Iterator<Item = Tile> {
    (from..size.div_ceil(u64::from(FULL))).filter_map(move |index| Level::Entries.tile(index, size))
}

/// Reads the bundles of a tree of `size` entries from one on, by `read`, which is told how many bytes a bundle's entries may
/// have, and returns `None` if there are more. Hands them over in order, many at a time, until `each` has enough.
pub fn in_batches<T: Send, E: Send>(
    (size, from): (u64, u64),
    readers: usize,
    read: impl Fn(Tile, usize) -> Result<Option<T>, E> + Sync,
    mut each: impl FnMut(Vec<(Tile, T)>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let mut rest = bundles(size, from);
    loop {
        let tiles: Vec<Tile> = rest.by_ref().take(BATCH).collect();
        if tiles.is_empty() {
            return Ok(());
        }
        let mut batch = Vec::new();
        for (tile, result) in tiles.iter().zip(in_parallel(readers, &tiles, |tile| read(*tile, SHARE))) {
            if let Some(small) = result? {
                batch.push((*tile, small));
                continue;
            }
            if !batch.is_empty() && each(std::mem::take(&mut batch))?.is_break() {
                return Ok(());
            }
            let large = read(*tile, bundle::LARGEST)?.map(|large| (*tile, large));
            if each(large.into_iter().collect())?.is_break() {
                return Ok(());
            }
        }
        if !batch.is_empty() && each(batch)?.is_break() {
            return Ok(());
        }
    }
}

/// Goes through the entries from bundle `from` on. `pick` is shown each of them by its index, on all cores; what it
/// picks goes to `take`, in order, until that has enough. Hashes are not looked at.
pub fn scan<T: Send>(
    log: &dyn Source,
    size: u64,
    from: u64,
    pick: impl Fn(u64, &[u8]) -> Option<T> + Sync,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) -> Result<(), FileError> {
    let read = |tile, most| read_bundle_at_most(log, tile, most);
    in_batches((size, from), log.readers(), read, |batch| {
        let picked = in_parallel(cores(), &batch, |(tile, read)| {
            let entries = bundle::entries(&read.plain, tile.width);
            let entries = entries.map_err(|why| FileError::Bundle { path: tile.path(), why })?;
            let numbered = (tile.index * u64::from(FULL)..).zip(entries);
            Ok(numbered.filter_map(|(index, entry)| pick(index, entry)).collect::<Vec<T>>())
        });
        for picked in picked {
            for item in picked? {
                if take(item).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bundles are handed over at a time, if those with these numbers are large.
    fn batches(size: u64, from: u64, large: &[u64]) -> Vec<usize> {
        let mut seen = Vec::new();
        let mut next = from;
        let read =
            |tile: Tile, most| Ok::<_, ()>((most == bundle::LARGEST || !large.contains(&tile.index)).then_some(()));
        in_batches((size, from), 3, read, |batch| {
            for (tile, ()) in &batch {
                assert_eq!(tile.index, next);
                next += 1;
            }
            seen.push(batch.len());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(next, size.div_ceil(256).max(from));
        seen
    }

    #[test]
    fn a_tree_is_gone_through_a_batch_at_a_time() {
        assert_eq!(batches(0, 0, &[]), [0; 0]);
        assert_eq!(batches(257, 0, &[]), [2]);
        assert_eq!(batches(64 * 256, 0, &[]), [64]);
        assert_eq!(batches(64 * 256 + 1, 0, &[]), [64, 1]);
        assert_eq!(batches(64 * 256 + 1, 60, &[]), [5]);
    }

    #[test]
    fn what_is_large_is_read_alone_and_in_its_place() {
        assert_eq!(batches(10 * 256, 0, &[0, 3, 4]), [1, 2, 1, 1, 5]);
        assert_eq!(batches(66 * 256, 0, &[63, 65]), [63, 1, 1, 1]);
    }

    #[test]
    fn a_checkpoint_may_claim_any_size() {
        let mut count = 0;
        in_batches(
            (u64::MAX, 0),
            3,
            |_, _| Ok::<_, ()>(Some(())),
            |batch| {
                count += batch.len();
                Ok(ControlFlow::Break(()))
            },
        )
        .unwrap();
        assert_eq!(count, BATCH);
    }
}

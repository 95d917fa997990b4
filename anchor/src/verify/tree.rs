//! The tree, computed again from the entries and compared with every tile.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use tlog_tiles::{Hash, record_hash};

use super::{Broken, FailedEntry, Failure, Log};
use crate::bundle;
use crate::checkpoint::Head;
use crate::entry::{self, Entry};
use crate::parallel::{cores, in_parallel};
use crate::source::{ReadBundle, in_batches, read_bundle_at_most};
use crate::tile::{FULL, Level, Tile};
use crate::tree::{Edge, subtree_hash, tile_bytes, tile_hashes};

/// The roots of a tree at some sizes, where they are known.
pub type Roots = BTreeMap<u64, Option<Hash>>;

/// A batch of entries, as their bundles hold them.
pub struct Batch<'a> {
    /// The index of the first.
    pub first: u64,
    /// Bundle by bundle.
    pub entries: &'a [Vec<Entry<'a>>],
    /// How many bytes were read for them.
    pub bytes: u64,
}

/// Checks bundles and tiles of the tree under `head`, and shows `each` batch of entries, in order. Of the first `dropped`
/// bundles only the hashes above level 0 are there. `roots` names sizes, and is given the root that the tree had at each
/// of them, where that can be told. Returns the right edge; its root is still to be compared.
pub fn check_tree(
    log: &Log,
    head: &Head,
    dropped: u64,
    roots: &mut Roots,
    mut each: impl FnMut(Batch),
) -> Result<Edge, Broken> {
    let mut edge = Edge::default();
    let mut note_root = |edge: &Edge| {
        if let Some(root) = roots.get_mut(&edge.size()) {
            *root = Some(edge.root());
        }
    };
    note_root(&edge);
    let mut push = |edge: &mut Edge, level: u8, hash: Hash| {
        let mut filled = Vec::new();
        edge.push_subtree(level, hash, |tile, hashes| filled.push((tile, tile_bytes(hashes))));
        note_root(edge);
        // Level 0 was compared when its bundle was read.
        for (tile, bytes) in filled.iter().filter(|(tile, _)| tile.level > Level::Hashes(0)) {
            compare(log, *tile, bytes)?;
        }
        Ok::<(), Broken>(())
    };
    for tile in (0..dropped.div_ceil(u64::from(FULL))).filter_map(|index| Level::Hashes(1).tile(index, head.size)) {
        let left = usize::try_from(dropped - tile.index * u64::from(FULL)).unwrap_or(usize::MAX);
        for hash in checked_hashes(log, tile)?.into_iter().take(left) {
            push(&mut edge, 1, hash)?;
        }
    }
    let read = |tile, most| read_bundle(log, head.size, tile, most);
    in_batches((head.size, dropped), log.source.readers(), read, |batch| {
        let first = edge.size();
        for hash in batch.iter().flat_map(|(_, bundle)| &bundle.hashes) {
            push(&mut edge, 0, *hash)?;
        }
        let entries = in_parallel(cores(), &batch, |(tile, bundle)| read_entries(*tile, &bundle.plain));
        let entries: Vec<Vec<Entry>> = entries.into_iter().collect::<Result<_, _>>()?;
        each(Batch { first, entries: &entries, bytes: batch.iter().map(|(_, bundle)| bundle.bytes).sum() });
        Ok::<_, Broken>(ControlFlow::Continue(()))
    })?;
    for level in 1..=Level::HIGHEST {
        if let Some(tile) = Level::Hashes(level).partial_tile(head.size) {
            compare(log, tile, &tile_bytes(edge.partial(level)))?;
        }
    }
    Ok(edge)
}

fn checked_hashes(log: &Log, tile: Tile) -> Result<Vec<Hash>, Broken> {
    let wrong = || Failure::of(tile.path(), format!("it does not hold {} hashes of 32 bytes", tile.width));
    Ok(tile_hashes(&log.hashes(tile)?, tile.width).ok_or_else(wrong)?)
}

fn compare(log: &Log, tile: Tile, expected: &[u8]) -> Result<(), Broken> {
    if log.hashes(tile)? == expected {
        Ok(())
    } else {
        Err(Failure::of(tile.path(), "it differs from what the entries give").into())
    }
}

struct Bundle {
    plain: Vec<u8>,
    hashes: Vec<Hash>,
    bytes: u64,
}

/// Reads a bundle whose entries have at most so many bytes, and compares its leaf hashes with the level-0 tile.
fn read_bundle(log: &Log, size: u64, tile: Tile, most: usize) -> Result<Option<Bundle>, Broken> {
    let fails = |why| Broken::from(Failure::of(tile.path(), why));
    let Some(ReadBundle { plain, length }) = read_bundle_at_most(log.source, tile, most)? else { return Ok(None) };
    let entries = bundle::entries(&plain, tile.width).map_err(fails)?;
    let hashes: Vec<Hash> = entries.iter().map(|entry| record_hash(entry)).collect();
    let hash_tile = Tile { level: Level::Hashes(0), ..tile };
    let recorded = checked_hashes(log, hash_tile)?;
    let Some(at) = (0..hashes.len()).find(|at| hashes[*at] != recorded[*at]) else {
        let bytes = length + u64::from(tile.width) * 32;
        return Ok(Some(Bundle { plain, hashes, bytes }));
    };
    // One of the two was changed. Which, the level above knows.
    if !tile_is_vouched(log, size, hash_tile, &recorded) {
        return Err(Failure::of(hash_tile.path(), "it differs from what the entries give").into());
    }
    let index = tile.index * u64::from(FULL) + at as u64;
    Err(failed_entry(tile, index, entries[at], "it is not the entry whose hash stands in the tree").into())
}

fn tile_is_vouched(log: &Log, size: u64, tile: Tile, hashes: &[Hash]) -> bool {
    let above = Level::Hashes(1);
    let index = tile.index / u64::from(FULL);
    let Some(parent) = above.tile(index, size).filter(|_| tile.is_full()) else { return false };
    let Ok(bytes) = log.hashes(parent) else { return false };
    let at = (tile.index % u64::from(FULL)) as usize;
    tile_hashes(&bytes, parent.width).is_some_and(|above| above.get(at) == Some(&subtree_hash(hashes)))
}

fn read_entries(tile: Tile, plain: &[u8]) -> Result<Vec<Entry<'_>>, Broken> {
    let entries = bundle::entries(plain, tile.width).map_err(|why| Failure::of(tile.path(), why))?;
    let first = tile.index * u64::from(FULL);
    let mut all = Vec::with_capacity(entries.len());
    for (at, bytes) in entries.into_iter().enumerate() {
        all.push(entry::read(bytes).map_err(|why| failed_entry(tile, first + at as u64, bytes, why))?);
    }
    Ok(all)
}

fn failed_entry(tile: Tile, index: u64, bytes: &[u8], why: impl std::fmt::Display) -> Failure {
    let entry = entry::read(bytes).ok();
    let received_ms = entry.as_ref().map(|entry| entry.received_ms);
    let named = FailedEntry::new(index, received_ms, entry.as_ref().map(|entry| entry.topic.as_ref()));
    Failure { entry: Some(named), ..Failure::of(tile.path(), why) }
}

//! The tree, computed again from the entries and compared with every tile.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::thread;

use tlog_tiles::{Hash, record_hash};

use super::{Broken, FailedEntry, Failure, Folder};
use crate::bundle;
use crate::checkpoint::Head;
use crate::entry::{self, Entry};
use crate::tile::{FULL, Level, Tile};
use crate::tree::{Edge, subtree_hash, tile_bytes, tile_hashes};

/// How many bundles are read at a time.
const BATCH: u64 = 64;

/// Applies `work` to all items on all cores, in order.
pub fn in_parallel<'a, T: Sync, U: Send>(items: &'a [T], work: impl Fn(&'a T) -> U + Sync) -> Vec<U> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = items.len().div_ceil(cores).max(1);
    if share >= items.len() {
        return items.iter().map(work).collect();
    }
    thread::scope(|scope| {
        let work = &work;
        let parts: Vec<_> =
            items.chunks(share).map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<U>>())).collect();
        let mut results = Vec::with_capacity(items.len());
        for part in parts {
            match part.join() {
                Ok(part) => results.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

/// Checks bundles and tiles of the tree under `head`, and shows `each` batch of entries, in order, as the bundles hold
/// them. `roots` names sizes, and is given the root that the tree had at each of them. Returns the right edge; its root
/// is still to be compared.
pub fn check_tree(
    folder: &Folder,
    head: &Head,
    roots: &mut BTreeMap<u64, Option<Hash>>,
    mut each: impl FnMut(&[Vec<Entry>]),
) -> Result<Edge, Broken> {
    let mut edge = Edge::default();
    let mut note_root = |edge: &Edge| {
        if let Some(root) = roots.get_mut(&edge.size()) {
            *root = Some(edge.root());
        }
    };
    note_root(&edge);
    let bundles: u64 = head.size.div_ceil(u64::from(FULL));
    for start in (0..bundles).step_by(BATCH as usize) {
        let batch: Vec<Tile> = (start..bundles.min(start + BATCH)).map(|index| bundle_at(index, head.size)).collect();
        let read = in_parallel(&batch, |tile| read_bundle(folder, head.size, *tile));
        let read: Vec<(Vec<u8>, Vec<Hash>)> = read.into_iter().collect::<Result<_, _>>()?;
        for hash in read.iter().flat_map(|(_, hashes)| hashes) {
            let mut filled = Vec::new();
            edge.push(*hash, |tile, hashes| filled.push((tile, tile_bytes(hashes))));
            note_root(&edge);
            // Level 0 was compared when its bundle was read.
            for (tile, bytes) in filled.iter().filter(|(tile, _)| tile.level > Level::Hashes(0)) {
                compare(folder, *tile, bytes)?;
            }
        }
        let numbered: Vec<(Tile, &Vec<u8>)> = batch.iter().copied().zip(read.iter().map(|(plain, _)| plain)).collect();
        let entries = in_parallel(&numbered, |(tile, plain)| read_entries(*tile, plain));
        let entries: Vec<Vec<Entry>> = entries.into_iter().collect::<Result<_, _>>()?;
        each(&entries);
    }
    for level in 1..=Level::HIGHEST {
        if let Some(tile) = Level::Hashes(level).partial_tile(head.size) {
            compare(folder, tile, &tile_bytes(edge.partial(level)))?;
        }
    }
    Ok(edge)
}

fn bundle_at(index: u64, size: u64) -> Tile {
    let width = (size - index * u64::from(FULL)).min(u64::from(FULL)) as u16;
    Tile { level: Level::Entries, index, width }
}

fn compare(folder: &Folder, tile: Tile, expected: &[u8]) -> Result<(), Broken> {
    if folder.read(&tile.path())? == expected {
        Ok(())
    } else {
        Err(Failure::of(tile.path(), "it differs from what the entries give").into())
    }
}

/// Reads a bundle and compares its leaf hashes with the level-0 tile.
fn read_bundle(folder: &Folder, size: u64, tile: Tile) -> Result<(Vec<u8>, Vec<Hash>), Broken> {
    let fails = |why| Broken::from(Failure::of(tile.path(), why));
    let plain = bundle::unpack(&folder.read(&tile.path())?).map_err(fails)?;
    let entries = bundle::entries(&plain, tile.width).map_err(fails)?;
    let hashes: Vec<Hash> = entries.iter().map(|entry| record_hash(entry)).collect();
    let hash_tile = Tile { level: Level::Hashes(0), ..tile };
    let bytes = folder.read(&hash_tile.path())?;
    let recorded = tile_hashes(&bytes, tile.width)
        .ok_or_else(|| Failure::of(hash_tile.path(), format!("it does not hold {} hashes of 32 bytes", tile.width)))?;
    let Some(at) = (0..hashes.len()).find(|at| hashes[*at] != recorded[*at]) else { return Ok((plain, hashes)) };
    // One of the two was changed. Which, the level above knows.
    if !tile_is_vouched(folder, size, hash_tile, &recorded) {
        return Err(Failure::of(hash_tile.path(), "it differs from what the entries give").into());
    }
    let index = tile.index * u64::from(FULL) + at as u64;
    Err(failed_entry(tile, index, entries[at], "it is not the entry whose hash stands in the tree").into())
}

fn tile_is_vouched(folder: &Folder, size: u64, tile: Tile, hashes: &[Hash]) -> bool {
    let above = Level::Hashes(1);
    let index = tile.index / u64::from(FULL);
    let parent = if index < above.full_tiles(size) { Some(Tile::full(above, index)) } else { above.partial_tile(size) };
    let Some(parent) = parent.filter(|parent| tile.is_full() && parent.index == index) else { return false };
    let Ok(bytes) = folder.read(&parent.path()) else { return false };
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
    let named = FailedEntry {
        index,
        received_ms: entry.as_ref().map(|entry| entry.received_ms),
        topic: entry.map(|entry| entry.topic.into_owned()),
    };
    Failure { file: tile.path(), entry: Some(named), why: why.to_string() }
}

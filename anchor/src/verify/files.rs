//! Which files of the folder are not those of the checkpoint: none may be foreign, and the others must fit.

use std::collections::BTreeMap;

use tlog_tiles::{Hash, record_hash};

use super::{Broken, Failure, Log};
use crate::bundle;
use crate::source::Listed;
use crate::tile::{FULL, Level, Tile};
use crate::tree::{Edge, tile_bytes};

/// Goes through the files of a log of `size` entries of which so many bundles were dropped. Names the first that is no
/// part of any such log; returns the tiles and bundles that are not those of its tree.
pub fn find_extra(files: &[Listed], size: u64, dropped: u64) -> Result<Vec<Tile>, Broken> {
    let mut extra = Vec::new();
    for Listed { path, is_file } in files {
        if path == "checkpoint" && *is_file {
            continue;
        }
        let Some(tile) = Tile::from_path(path).filter(|_| *is_file) else {
            return Err(Failure::of(path, "it does not belong to the log").into());
        };
        if matches!(tile.level, Level::Entries | Level::Hashes(0)) && tile.index < dropped {
            let first = dropped * u64::from(FULL);
            let why =
                format!("the log begins with entry {first}: what was dropped before must be dropped without gaps");
            return Err(Failure::of(path, why).into());
        }
        if tile.level.tile(tile.index, size) != Some(tile) {
            extra.push(tile);
        }
    }
    extra.sort();
    Ok(extra)
}

/// Checks files beside those of the checkpoint's tree, whose right edge this is: partial ones of older checkpoints, and
/// those of a checkpoint that is being written. Returns how many entries the latter add.
pub fn check_extra(log: &Log, edge: &Edge, extra: Vec<Tile>) -> Result<u64, Broken> {
    let (older, ahead): (Vec<Tile>, Vec<Tile>) = extra.into_iter().partition(|tile| tile.needs_size() <= edge.size());
    for tile in older {
        check_older(log, edge.size(), tile)?;
    }
    check_ahead(log, edge, &ahead)
}

fn differs(tile: Tile) -> Broken {
    Failure::of(tile.path(), "it differs from what the entries give").into()
}

fn leaves(log: &Log, tile: Tile) -> Result<Vec<Hash>, Broken> {
    let fails = |why| Broken::from(Failure::of(tile.path(), why));
    let plain = bundle::unpack(&log.read(&tile.path())?).map_err(fails)?;
    let entries = bundle::entries(&plain, tile.width).map_err(fails)?;
    Ok(entries.into_iter().map(record_hash).collect())
}

/// A partial file of an older checkpoint must be the start of what stands there now, which was checked before.
fn check_older(log: &Log, size: u64, tile: Tile) -> Result<(), Broken> {
    let (hashes, level) = match tile.level {
        Level::Entries => (tile_bytes(&leaves(log, tile)?), Level::Hashes(0)),
        level @ Level::Hashes(_) => (log.read(&tile.path())?, level),
    };
    let now = level.tile(tile.index, size).ok_or_else(|| differs(tile))?;
    let fits = hashes.len() == usize::from(tile.width) * 32 && log.hashes(now)?.starts_with(&hashes);
    if fits { Ok(()) } else { Err(differs(tile)) }
}

/// Files that go beyond the checkpoint must continue its tree.
fn check_ahead(log: &Log, edge: &Edge, ahead: &[Tile]) -> Result<u64, Broken> {
    let mut edge = edge.clone();
    let start = edge.size();
    let mut filled: BTreeMap<(Level, u64), Vec<u8>> = BTreeMap::new();
    let bundles: Vec<Tile> = ahead.iter().copied().filter(|tile| tile.level == Level::Entries).collect();
    for versions in bundles.chunk_by(|one, other| one.index == other.index) {
        let Some(widest) = versions.last() else { continue };
        let hashes = leaves(log, *widest)?;
        let known = edge.partial(0).len();
        if widest.index != edge.size() / u64::from(FULL) || !hashes.starts_with(edge.partial(0)) {
            return Err(differs(*widest));
        }
        for narrower in &versions[..versions.len() - 1] {
            if !hashes.starts_with(&leaves(log, *narrower)?) {
                return Err(differs(*narrower));
            }
        }
        for hash in &hashes[known..] {
            edge.push(*hash, |tile, hashes| {
                filled.insert((tile.level, tile.index), tile_bytes(hashes));
            });
        }
    }
    for tile in ahead {
        let Level::Hashes(level) = tile.level else { continue };
        let bytes = log.read(&tile.path())?;
        let given = match filled.get(&(tile.level, tile.index)) {
            Some(full) => full.clone(),
            None if tile.index == tile.level.full_tiles(edge.size()) => tile_bytes(edge.partial(level)),
            None => return Err(differs(*tile)),
        };
        if bytes.len() != usize::from(tile.width) * 32 || !given.starts_with(&bytes) {
            return Err(differs(*tile));
        }
    }
    Ok(edge.size() - start)
}

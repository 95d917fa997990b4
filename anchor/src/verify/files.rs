//! Which files of the folder are not those of the checkpoint: none may be foreign, and the others must fit.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use tlog_tiles::{Hash, record_hash};

use super::{Broken, Failure, Folder, VerifyError};
use crate::bundle;
use crate::tile::{FULL, Level, Tile};
use crate::tree::{Edge, tile_bytes};

/// Walks the folder. Names the first file that is no part of any log; returns the tiles and bundles that are not those
/// of a tree of `size` entries.
pub fn find_extra(folder: &Folder, size: u64) -> Result<Vec<Tile>, Broken> {
    let mut extra = Vec::new();
    walk(folder.0, "", &mut |path, is_file| {
        if path == "checkpoint" && is_file {
            return Ok(());
        }
        let Some(tile) = Tile::from_path(path).filter(|_| is_file) else {
            return Err(Failure::of(path, "it does not belong to the log").into());
        };
        let expected = if tile.is_full() {
            tile.index < tile.level.full_tiles(size)
        } else {
            tile.level.partial_tile(size) == Some(tile)
        };
        if !expected {
            extra.push(tile);
        }
        Ok(())
    })?;
    extra.sort();
    Ok(extra)
}

fn walk(root: &Path, within: &str, each: &mut impl FnMut(&str, bool) -> Result<(), Broken>) -> Result<(), Broken> {
    let folder = root.join(within);
    let unreadable = |source| Broken::Unknown(VerifyError::Unreadable { path: folder.clone(), source });
    let entries = match fs::read_dir(&folder) {
        // A running anchor removes folders of partial files that are superseded.
        Err(error) if error.kind() == ErrorKind::NotFound && !within.is_empty() => return Ok(()),
        other => other.map_err(unreadable)?,
    };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if within.is_empty() { name } else { format!("{within}/{name}") };
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            walk(root, &path, each)?;
        } else {
            each(&path, kind.is_file())?;
        }
    }
    Ok(())
}

/// Checks files beside those of the checkpoint's tree, whose right edge this is: partial ones of older checkpoints, and
/// those of a checkpoint that is being written. Returns how many entries the latter add.
pub fn check_extra(folder: &Folder, edge: &Edge, extra: Vec<Tile>) -> Result<u64, Broken> {
    let (older, ahead): (Vec<Tile>, Vec<Tile>) = extra.into_iter().partition(|tile| tile.needs_size() <= edge.size());
    for tile in older {
        check_older(folder, edge.size(), tile)?;
    }
    check_ahead(folder, edge, &ahead)
}

fn differs(tile: Tile) -> Broken {
    Failure::of(tile.path(), "it differs from what the entries give").into()
}

fn leaves(folder: &Folder, tile: Tile) -> Result<Vec<Hash>, Broken> {
    let fails = |why| Broken::from(Failure::of(tile.path(), why));
    let plain = bundle::unpack(&folder.read(&tile.path())?).map_err(fails)?;
    let entries = bundle::entries(&plain, tile.width).map_err(fails)?;
    Ok(entries.into_iter().map(record_hash).collect())
}

/// A partial file of an older checkpoint must be the start of what stands there now, which was checked before.
fn check_older(folder: &Folder, size: u64, tile: Tile) -> Result<(), Broken> {
    let (hashes, level) = match tile.level {
        Level::Entries => (tile_bytes(&leaves(folder, tile)?), Level::Hashes(0)),
        level @ Level::Hashes(_) => (folder.read(&tile.path())?, level),
    };
    let now = if tile.index < level.full_tiles(size) {
        Some(Tile::full(level, tile.index))
    } else {
        level.partial_tile(size).filter(|partial| partial.index == tile.index)
    };
    let now = now.ok_or_else(|| differs(tile))?;
    let fits = hashes.len() == usize::from(tile.width) * 32 && folder.read(&now.path())?.starts_with(&hashes);
    if fits { Ok(()) } else { Err(differs(tile)) }
}

/// Files that go beyond the checkpoint must continue its tree.
fn check_ahead(folder: &Folder, edge: &Edge, ahead: &[Tile]) -> Result<u64, Broken> {
    let mut edge = edge.clone();
    let start = edge.size();
    let mut filled: BTreeMap<(Level, u64), Vec<u8>> = BTreeMap::new();
    let bundles: Vec<Tile> = ahead.iter().copied().filter(|tile| tile.level == Level::Entries).collect();
    for versions in bundles.chunk_by(|one, other| one.index == other.index) {
        let Some(widest) = versions.last() else { continue };
        let hashes = leaves(folder, *widest)?;
        let known = edge.partial(0).len();
        if widest.index != edge.size() / u64::from(FULL) || !hashes.starts_with(edge.partial(0)) {
            return Err(differs(*widest));
        }
        for narrower in &versions[..versions.len() - 1] {
            if !hashes.starts_with(&leaves(folder, *narrower)?) {
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
        let bytes = folder.read(&tile.path())?;
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

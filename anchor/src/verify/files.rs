//! Which files of the folder are not those of the checkpoint: none may be unknown, and none may contradict it.

use tlog_tiles::{Hash, record_hash};

use super::{Beginning, Beside, Broken, Failure, Log};
use crate::bundle;
use crate::source::Listed;
use crate::tile::{FULL, Level, Tile};
use crate::tree::{Edge, tile_bytes};

/// Goes through the files of a log whose tree has this right edge. Says what is there beside that tree.
pub fn check_files(log: &Log, edge: &Edge, beginning: Beginning, files: &[Listed]) -> Result<Beside, Broken> {
    let mut beside = Beside::default();
    let mut others = Vec::new();
    for Listed { path, is_file, is_foreign } in files {
        if *is_foreign {
            beside.foreign.add(path);
            continue;
        }
        if path == "checkpoint" && *is_file {
            continue;
        }
        let tile = Tile::from_path(path).filter(|_| *is_file);
        let tile = tile.ok_or_else(|| Failure::of(path, "it does not belong to the log"))?;
        if matches!(tile.level, Level::Entries | Level::Hashes(0)) && tile.index < beginning.dropped {
            if !beginning.may_be_left(tile) {
                let first = beginning.dropped * u64::from(FULL);
                let why =
                    format!("the log begins with entry {first}: what was dropped before must be dropped without gaps");
                return Err(Failure::of(path, why).into());
            }
            beside.left_over.add(path);
        } else if tile.level.tile(tile.index, edge.size()) != Some(tile) {
            others.push(tile);
        }
    }
    others.sort();
    for tile in others {
        if tile.needs_size() <= edge.size() {
            check_older(log, edge.size(), tile)?;
        } else {
            check_ahead(log, edge, tile)?;
            beside.ahead.add(&tile.path());
        }
    }
    Ok(beside)
}

impl Beginning {
    /// Whether a drop that was cut short leaves this file of what is dropped. Who knows where the log begins knows that
    /// all before it is to go; otherwise it is the tile whose bundle is gone already, and no other.
    fn may_be_left(self, tile: Tile) -> bool {
        self.is_known || (tile.level == Level::Hashes(0) && tile.index + 1 == self.dropped)
    }
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

/// The hashes in a tile, or those of the entries in a bundle.
fn hashes(log: &Log, tile: Tile) -> Result<Vec<u8>, Broken> {
    let hashes = match tile.level {
        Level::Entries => tile_bytes(&leaves(log, tile)?),
        Level::Hashes(_) => log.read(&tile.path())?,
    };
    if hashes.len() == usize::from(tile.width) * 32 { Ok(hashes) } else { Err(differs(tile)) }
}

/// A partial file of an older checkpoint must be the start of what stands there now, which was checked before.
fn check_older(log: &Log, size: u64, tile: Tile) -> Result<(), Broken> {
    let level = Level::Hashes(tile.level.of_hashes());
    let now = level.tile(tile.index, size).ok_or_else(|| differs(tile))?;
    if log.hashes(now)?.starts_with(&hashes(log, tile)?) { Ok(()) } else { Err(differs(tile)) }
}

/// A file that goes beyond the checkpoint must begin with what the checkpoint covers of it.
fn check_ahead(log: &Log, edge: &Edge, tile: Tile) -> Result<(), Broken> {
    if tile.index > tile.level.full_tiles(edge.size()) {
        return Ok(());
    }
    let covered = tile_bytes(edge.partial(tile.level.of_hashes()));
    if covered.is_empty() || hashes(log, tile)?.starts_with(&covered) { Ok(()) } else { Err(differs(tile)) }
}

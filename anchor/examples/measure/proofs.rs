//! How long a proof of inclusion takes in a tree of a given size, from its tiles on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use grid_anchor::tile::{Level, Tile};
use grid_anchor::tree::{Edge, tile_bytes};
use sha2::{Digest, Sha256};
use tlog_tiles::{Hash, Tile as HashTile, TileHashReader, TileReader, check_record, prove_record};

use crate::{Failure, Table};

const PROOFS: u64 = 500;

fn leaf(index: u64) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(index.to_be_bytes()).finalize().into())
}

fn write(folder: &Path, tile: Tile, hashes: &[Hash]) -> Result<(), Failure> {
    let path = folder.join(tile.path());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, tile_bytes(hashes))?)
}

/// Writes the hash tiles of a tree of these leaves. Proofs need nothing else.
fn plant(folder: &Path, size: u64) -> Result<Edge, Failure> {
    let mut edge = Edge::default();
    let mut filled = Vec::new();
    for index in 0..size {
        edge.push(leaf(index), |tile, hashes| filled.push((tile, hashes.to_vec())));
        for (tile, hashes) in filled.drain(..) {
            write(folder, tile, &hashes)?;
        }
    }
    for level in 0..=Level::HIGHEST {
        if let Some(tile) = Level::Hashes(level).partial_tile(size) {
            write(folder, tile, edge.partial(level))?;
        }
    }
    Ok(edge)
}

struct Tiles(PathBuf);

impl TileReader for Tiles {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[HashTile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &HashTile| {
            let level = Level::Hashes(tile.level());
            let tile = Tile { level, index: tile.level_index(), width: tile.width() as u16 };
            fs::read(self.0.join(tile.path())).map_err(|_| tlog_tiles::Error::InvalidTile)
        };
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _: &[HashTile], _: &[Vec<u8>]) {}
}

/// Proofs for entries all over the tree, each from the files anew.
pub fn proofs(folder: &Path, sizes: &[u64], table: &mut Table) -> Result<(), Failure> {
    for size in sizes {
        let folder = folder.join(size.to_string());
        let edge = plant(&folder, *size)?;
        let tiles = Tiles(folder);
        let mut spans = Vec::new();
        for number in 0..PROOFS {
            let index = (number * 982_451_653) % size;
            let start = Instant::now();
            let proof = prove_record(*size, index, &TileHashReader::new(*size, edge.root(), &tiles))?;
            spans.push(start.elapsed());
            check_record(&proof, *size, edge.root(), index, leaf(index))?;
        }
        spans.sort_unstable();
        let of = |percent: usize| spans[(spans.len() - 1) * percent / 100];
        let in_ms = |span: Duration| span.as_secs_f64() * 1e3;
        let figure = format!("{:.3} ms, p99 {:.3} ms", in_ms(of(50)), in_ms(of(99)));
        table.row(&format!("proof of inclusion, {size} entries"), figure, "below 1 ms");
    }
    Ok(())
}

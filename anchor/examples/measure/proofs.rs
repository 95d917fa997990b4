//! How long a proof of inclusion takes in a log of a given size, from its files: what `grid-anchor prove` does for an
//! entry once it knows which.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use grid_anchor::bundle::pack;
use grid_anchor::checkpoint::LogKey;
use grid_anchor::entry;
use grid_anchor::proof::prove;
use grid_anchor::source::{Folder, Source, bundles};
use grid_anchor::tile::{FULL, Level, Tile};
use grid_anchor::tree::{Edge, tile_bytes};
use grid_protocol::author::Signed;
use grid_protocol::units::UnixMillis;
use tlog_tiles::{Hash, record_hash};

use crate::street::{Street, measurements};
use crate::{DEVICES, Failure, Table};

const PROOFS: u64 = 500;
/// More than a bundle holds, so that none of them is there twice and would be packed as a repetition.
const MESSAGES: usize = 2048;

/// The entries of a log: the same messages again and again, three a second.
struct Entries(Vec<Signed>);

impl Entries {
    fn get(&self, index: u64) -> Vec<u8> {
        let said = &self.0[index as usize % self.0.len()];
        entry::write(UnixMillis(1_475_863_000_000 + index * 333), &said.topic.to_string(), &said.payload)
    }
}

fn write(folder: &Path, path: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = folder.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, bytes)?)
}

/// Writes a log of so many entries: checkpoint, hash tiles, and those of its bundles that hold one of the `wanted`.
fn plant(folder: &Path, entries: &Entries, size: u64, wanted: &BTreeSet<u64>) -> Result<(), Failure> {
    let mut edge = Edge::default();
    let mut filled: Vec<(Tile, Vec<Hash>)> = Vec::new();
    for bundle in bundles(size, 0) {
        let first = bundle.index * u64::from(FULL);
        let held: Vec<Vec<u8>> = (first..first + u64::from(bundle.width)).map(|index| entries.get(index)).collect();
        for entry in &held {
            edge.push(record_hash(entry), |tile, hashes| filled.push((tile, hashes.to_vec())));
        }
        for (tile, hashes) in filled.drain(..) {
            write(folder, &tile.path(), &tile_bytes(&hashes))?;
        }
        if wanted.range(first..first + u64::from(bundle.width)).next().is_some() {
            write(folder, &bundle.path(), &pack(held.iter().map(Vec::as_slice)))?;
        }
    }
    for level in 0..=Level::HIGHEST {
        if let Some(tile) = Level::Hashes(level).partial_tile(size) {
            write(folder, &tile.path(), &tile_bytes(edge.partial(level)))?;
        }
    }
    let key = LogKey::generate(&"demo".parse()?, None)?;
    write(folder, "checkpoint", &key.sign(size, edge.root())?)
}

/// Proofs for entries all over the log, each from the files anew.
pub fn proofs(folder: &Path, sizes: &[u64], table: &mut Table) -> Result<(), Failure> {
    let entries = Entries(measurements(&mut Street::new()?.devices(DEVICES)?, MESSAGES)?);
    for size in sizes {
        let folder = folder.join(size.to_string());
        let wanted: Vec<u64> = (0..PROOFS).map(|number| (number * 982_451_653) % size).collect();
        plant(&folder, &entries, *size, &wanted.iter().copied().collect())?;
        let log = Folder::new(folder);
        let mut spans = Vec::new();
        for index in wanted {
            let start = Instant::now();
            let checkpoint = log.read("checkpoint")?;
            let proof = prove(&log, &checkpoint, index)?;
            spans.push(start.elapsed());
            if proof.entry != entries.get(index) {
                return Err(format!("the proof of entry {index} is another's").into());
            }
        }
        spans.sort_unstable();
        let of = |percent: usize| spans[(spans.len() - 1) * percent / 100];
        let in_ms = |span: Duration| span.as_secs_f64() * 1e3;
        let figure = format!("{:.3} ms, p99 {:.3} ms", in_ms(of(50)), in_ms(of(99)));
        table.row(&format!("proof of inclusion, {size} entries"), figure, "below 1 ms");
    }
    Ok(())
}

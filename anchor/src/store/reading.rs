//! What a start reads of the folder, proven to fit together: the right edge of the tree, the journal, the snapshot.

use std::ops::RangeInclusive;

use grid_durable::Durable;
use sha2::{Digest, Sha256};
use tlog_tiles::{Hash, record_hash};

use super::{CHECKPOINT, Inconsistency, JOURNAL, SESSIONS, Snapshot, StoreError, in_log, refuse};
use crate::bundle;
use crate::checkpoint::Head;
use crate::hex::hex;
use crate::journal::{BadJournal, Records};
use crate::tile::{FULL, Level, Tile};
use crate::tree::{Edge, subtree_hash, tile_hashes};

/// Reads the last tile of every level and the last bundle, and proves that they give the head's root.
pub(super) fn read_edge(durable: &Durable, head: &Head) -> Result<(Edge, Vec<Vec<u8>>), StoreError> {
    let mut levels = Vec::new();
    let mut entries: Vec<Vec<u8>> = Vec::new();
    // What one level says about the last hashes of the next, and which file says so.
    let mut below: Option<(String, Vec<Hash>)> = None;
    for level in Level::of(head.size) {
        let last = level.width(head.size) - 1;
        let index = last / u64::from(FULL);
        let tile = Tile { level, index, width: (last % u64::from(FULL)) as u16 + 1 };
        let path = in_log(tile);
        let bytes = durable.read(&path)?.ok_or_else(|| refuse(durable, &path, Inconsistency::Missing))?;
        if level == Level::Entries {
            let plain = bundle::unpack(&bytes).map_err(|why| refuse(durable, &path, why))?;
            let read = bundle::entries(&plain, tile.width).map_err(|why| refuse(durable, &path, why))?;
            below = Some((path, read.iter().map(|entry| record_hash(entry)).collect()));
            if !tile.is_full() {
                entries = read.into_iter().map(<[u8]>::to_vec).collect();
            }
            continue;
        }
        let hashes =
            tile_hashes(&bytes, tile.width).ok_or_else(|| refuse(durable, &path, Inconsistency::Tile(tile.width)))?;
        if let Some((lower, _)) = below.filter(|(_, expected)| !hashes.ends_with(expected)) {
            return Err(refuse(durable, &lower, Inconsistency::Hashes));
        }
        below = Some((path, if tile.is_full() { vec![subtree_hash(&hashes)] } else { Vec::new() }));
        levels.push(if tile.is_full() { Vec::new() } else { hashes });
    }
    let edge = Edge::new(head.size, levels);
    if edge.root() != head.root {
        return Err(refuse(durable, CHECKPOINT, Inconsistency::Root));
    }
    Ok((edge, entries))
}

pub(super) struct Scan {
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) length: u64,
    /// How long it is without the entries that are not under the checkpoint yet.
    pub(super) beyond: u64,
}

/// Reads the whole journal and proves that it continues the tree.
pub(super) fn scan_journal(durable: &Durable, edge: &Edge, edge_entries: &[Vec<u8>]) -> Result<Scan, StoreError> {
    let bad = |why: BadJournal| refuse(durable, JOURNAL, why);
    let foreign = || refuse(durable, JOURNAL, Inconsistency::Continues(edge.size()));
    if !durable.exists(JOURNAL)? {
        return Err(refuse(durable, JOURNAL, Inconsistency::Missing));
    }
    let mut records = Records::open(durable.reader(JOURNAL)?).map_err(bad)?;
    let first = records.first_index();
    if first > edge.size() || (first == edge.size() && records.root() != edge.root()) {
        return Err(foreign());
    }
    let bundle_start = edge.size() - edge_entries.len() as u64;
    let mut beyond = records.offset();
    while let Some(record) = records.read().map_err(bad)? {
        let known = record.index.checked_sub(bundle_start).and_then(|at| edge_entries.get(at as usize));
        if known.is_some_and(|known| *known != record.entry) {
            return Err(foreign());
        }
        if record.index < edge.size() {
            beyond = records.offset();
        }
    }
    if records.next_index() < edge.size() {
        return Err(foreign());
    }
    Ok(Scan { first, next: records.next_index(), length: records.offset(), beyond })
}

pub(super) fn snapshot_file(size: u64, bytes: &[u8]) -> Vec<u8> {
    let mut file = format!("grid-anchor sessions 1 {size} {}\n", digest(size, bytes)).into_bytes();
    file.extend_from_slice(bytes);
    file
}

fn digest(size: u64, bytes: &[u8]) -> String {
    hex(&Sha256::new().chain_update(size.to_be_bytes()).chain_update(bytes).finalize())
}

/// Reads the snapshot, which is written before its checkpoint: after a kill it may be newer, but the journal reaches it.
pub(super) fn read_snapshot(durable: &Durable, sizes: RangeInclusive<u64>) -> Result<Option<Snapshot>, StoreError> {
    let Some(file) = durable.read(SESSIONS)? else {
        if *sizes.start() > 0 {
            return Err(refuse(durable, SESSIONS, Inconsistency::Missing));
        }
        return Ok(None);
    };
    let damaged = || refuse(durable, SESSIONS, Inconsistency::Snapshot(*sizes.end()));
    let end = file.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
    let line = String::from_utf8_lossy(&file[..end]);
    let (size, sum) =
        line.strip_prefix("grid-anchor sessions 1 ").and_then(|rest| rest.split_once(' ')).ok_or_else(damaged)?;
    let size = size.parse().map_err(|_| damaged())?;
    let bytes = file[end + 1..].to_vec();
    if digest(size, &bytes) != sum || !sizes.contains(&size) {
        return Err(damaged());
    }
    Ok(Some(Snapshot { size, bytes }))
}

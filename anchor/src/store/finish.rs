//! The end of a checkpoint: what it supersedes is removed, and the journal begins anew. A start does the same for a
//! checkpoint that a crash cut short.

use std::io::{self, Read};

use grid_durable::{Appendable, Durable};

use super::reading::Scan;
use super::{JOURNAL, StoreError, in_log, refuse};
use crate::journal::{self, BadJournal};
use crate::tile::{Level, Tile};
use crate::tree::Edge;

/// Removes what a head of `size` entries has no use for: partial files of heads since the one of `first` entries, and
/// what was written for heads of up to `next` entries that were never signed.
pub(super) fn remove_superseded(durable: &mut Durable, first: u64, size: u64, next: u64) -> Result<(), StoreError> {
    for level in Level::of(next) {
        let current = level.partial_tile(size);
        for index in level.full_tiles(first)..=level.full_tiles(next) {
            let folder = format!("log/{}", Tile::full(level, index).partials());
            let names = durable.names_in(&folder)?;
            let widths = names.iter().filter_map(|name| name.parse().ok());
            let old = widths.map(|width| Tile { level, index, width }).filter(|tile| Some(*tile) != current);
            let old: Vec<Tile> = old.collect();
            for tile in &old {
                durable.remove(&in_log(*tile))?;
            }
            if !names.is_empty() && old.len() == names.len() {
                durable.remove_if_empty(&folder)?;
            }
        }
        for index in level.full_tiles(size)..level.full_tiles(next) {
            let path = in_log(Tile::full(level, index));
            if durable.exists(&path)? {
                durable.remove(&path)?;
            }
        }
    }
    Ok(())
}

/// Starts the journal that goes on from the checkpoint with the entries that the old one has beyond it.
pub(super) fn carry_over(durable: &mut Durable, edge: &Edge, scan: &Scan) -> Result<Appendable, StoreError> {
    let header = journal::header(edge.size(), edge.root());
    let entries = scan.length - scan.beyond;
    let mut old = durable.reader(JOURNAL)?;
    let read = io::copy(&mut old.by_ref().take(scan.beyond), &mut io::sink());
    read.map_err(|error| refuse(durable, JOURNAL, BadJournal::from(error)))?;
    durable.place_from(JOURNAL, &mut header.chain(old.take(entries)))?;
    durable.settle()?;
    Ok(durable.open_appendable(JOURNAL, header.len() as u64 + entries)?)
}

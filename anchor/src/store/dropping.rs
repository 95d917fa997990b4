//! Removes the beginning of the log (C2SP tlog-tiles, section Pruning): bundles and level-0 tiles, whole ones, oldest
//! first. Hashes from level 1 on stay, so that the root can be computed, and trees compared, for ever.

use std::ops::Range;

use grid_durable::io_error;

use super::{Store, StoreError, in_log};
use crate::pruning::{dropped_with, first_of};
use crate::tile::{FULL, Level};

impl Store {
    /// The index of the first entry that is not dropped.
    pub fn minimum_index(&self) -> u64 {
        self.minimum
    }

    /// The first bundle of which anything is there.
    pub fn first_remains(&self) -> Result<u64, StoreError> {
        let log = self.durable.path("log");
        let first = |level| first_of(&log, level).map_err(io_error("list", &log));
        let (bundle, tile) = (first(Level::Entries)?, first(Level::Hashes(0))?);
        Ok(bundle.into_iter().chain(tile).min().unwrap_or(0))
    }

    /// Removes bundles with the tiles of their hashes; those before them are gone already. What is removed may come back
    /// with a power cut: the caller knows from what it has written down before that it is to be removed again.
    pub fn drop_bundles(&mut self, bundles: Range<u64>) -> Result<(), StoreError> {
        for bundle in bundles {
            for tile in dropped_with(bundle) {
                let path = in_log(tile);
                if self.durable.exists(&path)? {
                    self.durable.remove(&path)?;
                }
                self.remove_folders_after(&path)?;
            }
            self.minimum = self.minimum.max((bundle + 1) * u64::from(FULL));
        }
        Ok(())
    }

    /// A folder holds a thousand: with the last of them it goes too.
    fn remove_folders_after(&mut self, path: &str) -> Result<(), StoreError> {
        let mut path = path;
        while let Some((folder, "999" | "x999")) = path.rsplit_once('/') {
            if !folder.rsplit('/').next().is_some_and(|name| name.starts_with('x')) {
                return Ok(());
            }
            self.durable.remove_if_empty(folder)?;
            path = folder;
        }
        Ok(())
    }
}

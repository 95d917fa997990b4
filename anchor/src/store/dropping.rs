//! Removes the beginning of the log (C2SP tlog-tiles, section Pruning): bundles and level-0 tiles, whole ones, oldest
//! first. Hashes from level 1 on stay, so that the root can be computed, and trees compared, for ever.

use std::ops::Range;

use grid_durable::Durable;

use super::{Store, StoreError, in_log};
use crate::pruning::{dropped_with, first_among};
use crate::tile::{FULL, Level, Tile};

/// The index of the first entry that is there.
pub(super) fn minimum_index(durable: &Durable) -> Result<u64, StoreError> {
    Ok(first_of(durable, Level::Entries)?.unwrap_or(0) * u64::from(FULL))
}

fn first_of(durable: &Durable, level: Level) -> Result<Option<u64>, StoreError> {
    Ok(first_among(level, |folder| durable.names_in(&format!("log/{folder}")))?)
}

impl Store {
    /// The index of the first entry that is not dropped.
    pub fn minimum_index(&self) -> u64 {
        self.minimum
    }

    /// The first bundle of which anything is there.
    pub fn first_remains(&self) -> Result<u64, StoreError> {
        let (bundle, tile) = (first_of(&self.durable, Level::Entries)?, first_of(&self.durable, Level::Hashes(0))?);
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
                self.remove_partials(tile)?;
                self.remove_folders_after(&path)?;
            }
            self.minimum = self.minimum.max((bundle + 1) * u64::from(FULL));
        }
        Ok(())
    }

    /// Partial files were removed when it was full, but may have come back with a power cut too.
    fn remove_partials(&mut self, tile: Tile) -> Result<(), StoreError> {
        let folder = format!("log/{}", tile.partials());
        for name in self.durable.names_in(&folder)? {
            self.durable.remove(&format!("{folder}/{name}"))?;
        }
        Ok(self.durable.remove_if_empty(&folder)?)
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

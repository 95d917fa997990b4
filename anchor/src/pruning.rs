//! Where a log begins (C2SP tlog-tiles, section Pruning).
//!
//! Retention drops old entries: bundles and level-0 tiles, always whole ones and always the oldest. The index of the
//! first entry that is left is the log's *minimum index*. No file says it: it is where the first bundle stands.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::tile::{FULL, Level, Tile};

/// N in the deepest path has this many groups of three digits: a tree has fewer than 2^64 entries.
const MOST_GROUPS: u32 = 7;

/// The minimum index of the log in a folder: that of the first entry of its first bundle. A log without any bundle
/// begins at 0.
pub fn minimum_index(log: &Path) -> io::Result<u64> {
    Ok(first_bundle(log)?.unwrap_or(0) * u64::from(FULL))
}

/// The number of the first bundle that is there, full or partial.
pub fn first_bundle(log: &Path) -> io::Result<Option<u64>> {
    // Numbers with fewer groups of digits are smaller.
    for groups in 1..=MOST_GROUPS {
        if let Some(first) = first_in(&log.join("tile/entries"), 0, groups)? {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// The smallest number that has `groups` more groups of digits in this folder, which stands for the number `before`.
fn first_in(folder: &Path, before: u64, groups: u32) -> io::Result<Option<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let digits = if groups > 1 { name.strip_prefix('x') } else { Some(name.strip_suffix(".p").unwrap_or(&name)) };
        numbers.extend(digits.filter(|digits| digits.len() == 3).and_then(|digits| digits.parse::<u16>().ok()));
    }
    numbers.sort_unstable();
    for number in numbers {
        let whole = before * 1000 + u64::from(number);
        if groups == 1 {
            if is_there(folder, number)? {
                return Ok(Some(whole));
            }
        } else if let Some(first) = first_in(&folder.join(format!("x{number:03}")), whole, groups - 1)? {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// Whether a bundle is there: its file, or a partial version of it. The folder of those may be about to be removed.
fn is_there(folder: &Path, number: u16) -> io::Result<bool> {
    if folder.join(format!("{number:03}")).is_file() {
        return Ok(true);
    }
    match fs::read_dir(folder.join(format!("{number:03}.p"))) {
        Ok(mut partials) => Ok(partials.next().is_some()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The files of a bundle that retention drops, in the order in which it drops them: so there is never a bundle whose
/// hashes are gone.
pub fn dropped_with(bundle: u64) -> [Tile; 2] {
    [Tile::full(Level::Entries, bundle), Tile::full(Level::Hashes(0), bundle)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimum_of(tiles: &[Tile]) -> u64 {
        let folder = tempfile::tempdir().unwrap();
        for tile in tiles {
            let path = folder.path().join(tile.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        minimum_index(folder.path()).unwrap()
    }

    fn bundles(numbers: impl IntoIterator<Item = u64>) -> Vec<Tile> {
        numbers.into_iter().map(|number| Tile::full(Level::Entries, number)).collect()
    }

    #[test]
    fn a_log_begins_where_its_first_bundle_stands() {
        assert_eq!(minimum_of(&[]), 0);
        assert_eq!(minimum_of(&bundles(0..3)), 0);
        assert_eq!(minimum_of(&bundles(5..30)), 5 * 256);
        assert_eq!(minimum_of(&bundles([998, 999, 1000, 1001])), 998 * 256);
        assert_eq!(minimum_of(&bundles([1001, 2003])), 1001 * 256);
        assert_eq!(minimum_of(&bundles([1_234_067, 1_000_000, 999_999])), 999_999 * 256);
        assert_eq!(minimum_of(&bundles([1_234_067, 1_001_000])), 1_001_000 * 256);
        let partial = Tile { level: Level::Entries, index: 3, width: 7 };
        assert_eq!(minimum_of(&[partial]), 3 * 256);
        assert_eq!(minimum_of(&[Tile::full(Level::Hashes(0), 1), partial]), 3 * 256);
    }

    #[test]
    fn empty_folders_are_no_bundles() {
        let folder = tempfile::tempdir().unwrap();
        for empty in ["tile/entries/002.p", "tile/entries/x001", "tile/entries/x002/x003"] {
            fs::create_dir_all(folder.path().join(empty)).unwrap();
        }
        assert_eq!(first_bundle(folder.path()).unwrap(), None);
        let path = folder.path().join(Tile::full(Level::Entries, 2_003_004).path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        assert_eq!(first_bundle(folder.path()).unwrap(), Some(2_003_004));
    }
}

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
    Ok(first_of(log, Level::Entries)?.unwrap_or(0) * u64::from(FULL))
}

/// The number of the first tile or bundle that is there, full or partial.
pub fn first_of(log: &Path, level: Level) -> io::Result<Option<u64>> {
    first_among(level, |folder| names_in(&log.join(folder)))
}

/// The same where `names_in` lists the folders of the log, with no names in one that is not there.
pub fn first_among<E>(level: Level, names_in: impl Fn(&str) -> Result<Vec<String>, E>) -> Result<Option<u64>, E> {
    let folder = match level {
        Level::Entries => "tile/entries".to_owned(),
        Level::Hashes(level) => format!("tile/{level}"),
    };
    // Numbers with fewer groups of digits are smaller.
    for groups in 1..=MOST_GROUPS {
        if let Some(first) = first_in(&names_in, &folder, 0, groups)? {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The smallest number that has `groups` more groups of digits in this folder, which stands for the number `before`.
fn first_in<E>(
    names_in: &impl Fn(&str) -> Result<Vec<String>, E>,
    folder: &str,
    before: u64,
    groups: u32,
) -> Result<Option<u64>, E> {
    let names = names_in(folder)?;
    let number = |name: &String| {
        let digits = if groups > 1 { name.strip_prefix('x') } else { Some(name.strip_suffix(".p").unwrap_or(name)) };
        digits.filter(|digits| digits.len() == 3)?.parse::<u16>().ok()
    };
    let mut numbers: Vec<u16> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    for number in numbers {
        // No log gets that far, but a folder may say so.
        let Some(whole) = before.checked_mul(1000).and_then(|before| before.checked_add(number.into())) else { break };
        if groups > 1 {
            if let Some(first) = first_in(names_in, &format!("{folder}/x{number:03}"), whole, groups - 1)? {
                return Ok(Some(first));
            }
            continue;
        }
        // Its file, or a partial version of it. The folder of those may be about to be removed.
        let full = format!("{number:03}");
        if names.contains(&full) || !names_in(&format!("{folder}/{full}.p"))?.is_empty() {
            return Ok(Some(whole));
        }
    }
    Ok(None)
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
        assert_eq!(first_of(folder.path(), Level::Entries).unwrap(), None);
        fs::create_dir_all(folder.path().join("tile/entries/x999/x999/x999/x999/x999/x999/999.p/1")).unwrap();
        assert_eq!(first_of(folder.path(), Level::Entries).unwrap(), None);
        let path = folder.path().join(Tile::full(Level::Entries, 2_003_004).path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        assert_eq!(first_of(folder.path(), Level::Entries).unwrap(), Some(2_003_004));
    }
}

//! Where the pieces of the log lie: tiles, bundles and their paths (C2SP tlog-tiles).
//!
//! A *tile* at level L holds up to 256 hashes, each of a complete subtree of 256^L entries. A *bundle* holds up to 256
//! entries. Both are files:
//!
//! ```text
//! tile/<L>/<N>            256 hashes of 32 bytes       tile/0/x001/x234/067
//! tile/<L>/<N>.p/<W>      the first W of them          tile/1/000.p/7
//! tile/entries/<N>        256 entries (see bundle)     tile/entries/x001/x234/067
//! tile/entries/<N>.p/<W>  the first W of them          tile/entries/000.p/44
//! ```
//!
//! N is written in groups of three digits, all but the last with an `x` in front. Partial ones (W below 256) stand only
//! at the right edge of the tree.

/// How many hashes or entries a full tile or bundle holds.
pub const FULL: u16 = 256;

/// log2 of [`FULL`].
const BITS: u32 = 8;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The entries themselves.
    Entries,
    /// Hashes of complete subtrees of 256^level entries; at most 7, since a tree has fewer than 2^64 entries.
    Hashes(u8),
}

impl Level {
    /// The highest level of hashes.
    pub const HIGHEST: u8 = 7;

    /// How many complete subtrees, or entries, a tree of `size` entries has at this level.
    pub fn width(self, size: u64) -> u64 {
        match self {
            Self::Entries => size,
            Self::Hashes(level) => size.checked_shr(BITS * u32::from(level)).unwrap_or(0),
        }
    }

    /// How many of its tiles are full in a tree of `size` entries.
    pub fn full_tiles(self, size: u64) -> u64 {
        self.width(size) >> BITS
    }

    /// The partial tile at the right edge of a tree of `size` entries, if there is one.
    pub fn partial_tile(self, size: u64) -> Option<Tile> {
        let width = (self.width(size) % u64::from(FULL)) as u16;
        (width > 0).then(|| Tile { level: self, index: self.full_tiles(size), width })
    }

    /// Its tile number `index` in a tree of `size` entries, full or partial, if there is one.
    pub fn tile(self, index: u64, size: u64) -> Option<Tile> {
        if index < self.full_tiles(size) {
            return Some(Tile::full(self, index));
        }
        self.partial_tile(size).filter(|partial| partial.index == index)
    }

    /// At which level the hashes of what it holds stand.
    pub fn of_hashes(self) -> u8 {
        match self {
            Self::Entries => 0,
            Self::Hashes(level) => level,
        }
    }

    /// All levels of a tree of `size` entries, bundles first.
    pub fn of(size: u64) -> impl Iterator<Item = Self> {
        let hashes = (0..=Self::HIGHEST).map(Self::Hashes);
        std::iter::once(Self::Entries).chain(hashes).take_while(move |level| level.width(size) > 0)
    }
}

/// One file of the log that is not its checkpoint: a tile of hashes or a bundle of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub level: Level,
    /// The how manieth of its level, from 0.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to 256.
    pub width: u16,
}

impl Tile {
    /// A full tile.
    pub fn full(level: Level, index: u64) -> Self {
        Self { level, index, width: FULL }
    }

    /// Whether it is full, and so will never change.
    pub fn is_full(&self) -> bool {
        self.width == FULL
    }

    /// What holds this partial tile, and more, in a tree of `size` entries (C2SP tlog-tiles, section "Partial Tiles").
    pub fn wider(self, size: u64) -> Option<Self> {
        self.level.tile(self.index, size).filter(|now| now.width > self.width)
    }

    /// How large a tree must be to have this tile.
    pub fn needs_size(&self) -> u64 {
        let end = self.index.saturating_mul(u64::from(FULL)).saturating_add(u64::from(self.width));
        match self.level {
            Level::Entries => end,
            Level::Hashes(level) => end.saturating_mul(1 << (BITS * u32::from(level))),
        }
    }

    /// The path of the file, relative to the log's folder.
    pub fn path(&self) -> String {
        if self.is_full() { self.stem() } else { format!("{}/{}", self.partials(), self.width) }
    }

    /// The folder that holds the partial versions of this tile, relative to the log's folder.
    pub fn partials(&self) -> String {
        format!("{}.p", self.stem())
    }

    fn stem(&self) -> String {
        let mut path = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            path = format!("x{:03}/{path}", rest % 1000);
            rest /= 1000;
        }
        match self.level {
            Level::Entries => format!("tile/entries/{path}"),
            Level::Hashes(level) => format!("tile/{level}/{path}"),
        }
    }

    /// Reads a path. Every tile has one path, and nothing else is a tile.
    pub fn from_path(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = match level {
            "entries" => Level::Entries,
            digits => Level::Hashes(digits.parse().ok().filter(|level| *level <= Level::HIGHEST)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|width| (1..FULL).contains(width))?),
            None => (rest, FULL),
        };
        let index = number.split('/').try_fold(0u64, |index, group| {
            let digits = group.strip_prefix('x').unwrap_or(group);
            index.checked_mul(1000)?.checked_add(digits.parse().ok()?)
        })?;
        let tile = Self { level, index, width };
        // Signs, missing zeros, a misplaced x: whatever is not the one spelling is no tile.
        (tile.path() == path).then_some(tile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        for (tile, path) in [
            (Tile::full(Level::Hashes(0), 1_234_067), "tile/0/x001/x234/067"),
            (Tile { level: Level::Hashes(1), index: 0, width: 7 }, "tile/1/000.p/7"),
            (Tile::full(Level::Entries, 999), "tile/entries/999"),
            (Tile::full(Level::Entries, 1000), "tile/entries/x001/000"),
            (Tile { level: Level::Entries, index: 273, width: 112 }, "tile/entries/273.p/112"),
        ] {
            assert_eq!(tile.path(), path);
            assert_eq!(Tile::from_path(path), Some(tile));
        }
    }

    #[test]
    fn another_spelling_is_no_tile() {
        for path in [
            "checkpoint",
            "tile/0/00",
            "tile/0/1",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/8/000",
            "tile/00/000",
            "tile/+0/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/07",
            "tile/0/000.p",
            "tile/data/000",
            "tile/entries/x99999999999999999999/000",
        ] {
            assert_eq!(Tile::from_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_tree_of_70000_has_the_tiles_of_the_specifications_example() {
        let partials: Vec<String> =
            Level::of(70_000).filter_map(|level| level.partial_tile(70_000)).map(|tile| tile.path()).collect();
        assert_eq!(partials, ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
        assert_eq!(Level::Hashes(0).full_tiles(70_000), 273);
        assert_eq!(Level::Hashes(1).full_tiles(70_000), 1);
    }

    #[test]
    fn a_tile_knows_how_large_its_tree_must_be() {
        assert_eq!(Tile::full(Level::Hashes(1), 0).needs_size(), 65_536);
        assert_eq!(Tile { level: Level::Hashes(0), index: 1, width: 3 }.needs_size(), 259);
        assert_eq!(Tile::full(Level::Hashes(7), u64::MAX).needs_size(), u64::MAX);
    }

    #[test]
    fn a_tree_has_its_full_tiles_and_one_partial_tile_at_each_level_and_no_other() {
        for size in [0, 1, 255, 256, 257, 70_000] {
            for level in [Level::Entries, Level::Hashes(0), Level::Hashes(1)] {
                let full = (0..level.full_tiles(size)).map(|index| Tile::full(level, index));
                let expected: Vec<Tile> = full.chain(level.partial_tile(size)).collect();
                let found: Vec<Tile> = (0..400).filter_map(|index| level.tile(index, size)).collect();
                assert_eq!(found, expected, "{level:?} of {size}");
            }
        }
        assert_eq!(Level::Entries.tile(u64::MAX, 300), None);
    }
}

//! The Merkle tree, of which only the right edge is kept in memory (RFC 6962 section 2.1, C2SP tlog-tiles).
//!
//! A leaf is SHA-256(0x00 ‖ entry), a node SHA-256(0x01 ‖ left ‖ right). [`Edge`] holds, per level, the hashes of the
//! partial tile at the right. Pushing a leaf fills tiles; a full tile is handed out, and its own hash moves one level up.

use tlog_tiles::{EMPTY_HASH, Hash, Tile as HashTile, node_hash};

use crate::tile::{FULL, Level, Tile};

/// The right edge of a tree.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    size: u64,
    /// Per level, the hashes of the partial tile: 0 to 255 of them.
    levels: Vec<Vec<Hash>>,
}

/// The hashes of a tile as the bytes of its file.
pub fn tile_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes in the bytes of a tile's file; `None` unless there are exactly `width`.
pub fn tile_hashes(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == usize::from(width)).then(|| hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// The hash of the complete subtree over these hashes, whose number is a power of two.
pub fn subtree_hash(hashes: &[Hash]) -> Hash {
    HashTile::subtree_hash(&tile_bytes(hashes))
}

impl Edge {
    /// The edge of a tree of `size` entries from the hashes of its partial tiles, lowest level first.
    pub fn new(size: u64, mut levels: Vec<Vec<Hash>>) -> Self {
        while levels.last().is_some_and(Vec::is_empty) {
            levels.pop();
        }
        Self { size, levels }
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of the partial tile at a level; none if the level ends with a full tile.
    pub fn partial(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// Appends a leaf's hash. Every tile that it fills goes to `full`, lowest level first.
    pub fn push(&mut self, leaf: Hash, full: impl FnMut(Tile, &[Hash])) {
        self.push_subtree(0, leaf, full);
    }

    /// Appends the hash of a complete subtree of 256^`lowest` entries whose entries are not at hand. There must be no
    /// partial tile below that level. Every tile that it fills goes to `full`, lowest level first.
    pub fn push_subtree(&mut self, lowest: u8, subtree: Hash, mut full: impl FnMut(Tile, &[Hash])) {
        self.size += 1 << (8 * u32::from(lowest));
        let mut hash = subtree;
        while self.levels.len() < usize::from(lowest) {
            self.levels.push(Vec::new());
        }
        for level in lowest..=Level::HIGHEST {
            let at = usize::from(level);
            if self.levels.len() == at {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[at];
            hashes.push(hash);
            if hashes.len() < usize::from(FULL) {
                return;
            }
            let level = Level::Hashes(level);
            full(Tile::full(level, level.full_tiles(self.size) - 1), hashes);
            hash = subtree_hash(hashes);
            hashes.clear();
        }
    }

    /// The root: the complete subtrees at the edge, hashed together from right to left.
    pub fn root(&self) -> Hash {
        let mut root = None;
        for hashes in &self.levels {
            let mut end = hashes.len();
            while end > 0 {
                // The smallest power of two in `end`: the rightmost complete subtree within this tile.
                let start = end - (1 << end.trailing_zeros());
                let subtree = subtree_hash(&hashes[start..end]);
                root = Some(root.map_or(subtree, |right| node_hash(subtree, right)));
                end = start;
            }
        }
        root.unwrap_or(EMPTY_HASH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};
    use std::collections::HashMap;
    use tlog_tiles::{
        HashReader, RecordProof, TileHashReader, TileReader, TreeProof, check_record, check_tree, prove_record,
        prove_tree, record_hash, stored_hashes_for_record_hash,
    };

    /// RFC 6962 section 2.1, word by word.
    fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash(Sha256::digest([]).into()),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = (naive_root(&leaves[..split]), naive_root(&leaves[split..]));
                Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
            }
        }
    }

    fn leaf(index: u64) -> Hash {
        Hash(Sha256::new().chain_update([0]).chain_update(index.to_be_bytes()).finalize().into())
    }

    /// All tiles of a tree, as others would read them.
    #[derive(Default)]
    struct Tiles(HashMap<Tile, Vec<u8>>);

    impl TileReader for Tiles {
        fn height(&self) -> u8 {
            8
        }

        fn read_tiles(&self, tiles: &[HashTile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
            let read = |tile: &HashTile| {
                let ours =
                    Tile { level: Level::Hashes(tile.level()), index: tile.level_index(), width: tile.width() as u16 };
                self.0.get(&ours).cloned().ok_or(tlog_tiles::Error::InvalidTile)
            };
            tiles.iter().map(read).collect()
        }

        fn save_tiles(&self, _: &[HashTile], _: &[Vec<u8>]) {}
    }

    /// All hashes of complete subtrees, in the order in which they come to be. Reading tiles, which proves them against
    /// the root each time, would take too long for all histories.
    #[derive(Default)]
    struct Stored(Vec<Hash>);

    impl HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
            Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
        }
    }

    #[test]
    fn every_tree_up_to_300_has_the_right_root_and_tiles_and_every_proof_in_it_proves_that_and_nothing_else() {
        let mut edge = Edge::default();
        let mut full = Tiles::default();
        let mut stored = Stored::default();
        let mut leaves = Vec::new();
        let mut roots = vec![edge.root()];
        assert_eq!(edge.root(), naive_root(&[]));
        for size in 1..=300u64 {
            let index = size - 1;
            leaves.push(leaf(index));
            let hashes = stored_hashes_for_record_hash(index, leaf(index), &stored).unwrap();
            stored.0.extend(hashes);
            assert_eq!(leaf(index), record_hash(&index.to_be_bytes()));
            edge.push(leaf(index), |tile, hashes| {
                full.0.insert(tile, tile_bytes(hashes));
            });
            assert_eq!(edge.root(), naive_root(&leaves), "root at {size}");
            roots.push(edge.root());

            let mut tiles = Tiles(full.0.clone());
            for level in Level::of(size).skip(1) {
                let Level::Hashes(number) = level else { unreachable!() };
                let subtree = 256usize.pow(u32::from(number));
                let hashes: Vec<Hash> = leaves.chunks_exact(subtree).map(naive_root).collect();
                if let Some(tile) = level.partial_tile(size) {
                    tiles.0.insert(tile, tile_bytes(edge.partial(number)));
                }
                for (at, chunk) in hashes.chunks(256).enumerate() {
                    let tile = Tile { level, index: at as u64, width: chunk.len() as u16 };
                    assert_eq!(tiles.0.get(&tile), Some(&tile_bytes(chunk)), "{tile:?} at {size}");
                }
            }

            let (root, reader) = (edge.root(), TileHashReader::new(size, edge.root(), &tiles));
            for index in 0..size {
                let proof = prove_record(size, index, &reader).unwrap();
                check_record(&proof, size, root, index, leaf(index)).unwrap();
                only_this_entry_is_proved(&proof, &roots, size, index);
            }
            for older in [1, size / 2, size - 1, size].into_iter().filter(|older| *older > 0) {
                assert_eq!(prove_tree(size, older, &reader).unwrap(), prove_tree(size, older, &stored).unwrap());
            }
            for older in 1..=size {
                let proof = prove_tree(size, older, &stored).unwrap();
                check_tree(&proof, size, root, older, roots[older as usize]).unwrap();
                only_this_history_is_proved(&proof, &roots, size, older);
            }
        }
    }

    /// What is one change away from a proof: a hash has another bit, one is missing, one is too many.
    fn changed(proof: &[Hash]) -> Vec<Vec<Hash>> {
        let more = [Hash([0; 32])];
        let mut all = vec![[proof, &more].concat(), [&more, proof].concat()];
        all.extend(proof.split_first().map(|(_, rest)| rest.to_vec()));
        all.extend(proof.split_last().map(|(_, rest)| rest.to_vec()));
        all.extend((0..proof.len()).map(|at| {
            let mut other = proof.to_vec();
            other[at].0[at % 32] ^= 1 << (at % 8);
            other
        }));
        all
    }

    /// `size` alone is not proved (RFC 6962 section 2.1.1: trees of several sizes share a path), only size and root
    /// together, as a checkpoint signs them.
    fn only_this_entry_is_proved(proof: &RecordProof, roots: &[Hash], size: u64, index: u64) {
        let refused = |proof: &RecordProof, size: u64, index: u64, entry: u64| {
            let root = roots.get(size as usize).copied().unwrap_or(EMPTY_HASH);
            assert!(
                check_record(proof, size, root, index, leaf(entry)).is_err(),
                "{proof:?} for entry {entry} at {index} of {size}"
            );
        };
        for wrong in changed(proof) {
            refused(&wrong, size, index, index);
        }
        refused(proof, size, index, index + 1);
        for other in [index.wrapping_sub(1), index + 1, index ^ 2, size, u64::MAX] {
            refused(proof, size, other, index);
        }
        for other in [0, index, size - 1, size + 1] {
            refused(proof, other, index, index);
        }
    }

    fn only_this_history_is_proved(proof: &TreeProof, roots: &[Hash], size: u64, older: u64) {
        let refused = |proof: &TreeProof, size: u64, older: u64, old_root: Hash| {
            let root = roots.get(size as usize).copied().unwrap_or(EMPTY_HASH);
            assert!(check_tree(proof, size, root, older, old_root).is_err(), "{proof:?} from {older} to {size}");
        };
        let old_root = roots[older as usize];
        for wrong in changed(proof) {
            refused(&wrong, size, older, old_root);
        }
        let mut other_root = old_root;
        other_root.0[31] ^= 1;
        refused(proof, size, older, other_root);
        refused(proof, size, older - 1, roots[older as usize - 1]);
        refused(proof, size, size + 1, old_root);
        for other in [0, older - 1, size - 1, size + 1].into_iter().filter(|other| *other != size) {
            refused(proof, other, older, old_root);
        }
        if older < size {
            refused(proof, size, older + 1, roots[older as usize + 1]);
        }
    }

    #[test]
    fn the_second_level_fills_at_65536() {
        let mut edge = Edge::default();
        let mut filled = Vec::new();
        for index in 0..65_537 {
            edge.push(leaf(index), |tile, _| filled.push(tile));
        }
        assert_eq!(filled.len(), 257);
        assert_eq!(filled.last(), Some(&Tile::full(Level::Hashes(1), 0)));
        assert_eq!((edge.partial(0).len(), edge.partial(1).len(), edge.partial(2).len()), (1, 0, 1));
    }

    #[test]
    fn an_edge_that_was_read_back_goes_on_as_before() {
        let mut edge = Edge::default();
        for index in 0..1000 {
            edge.push(leaf(index), |_, _| {});
        }
        let mut read_back = Edge::new(1000, (0..4).map(|level| edge.partial(level).to_vec()).collect());
        assert_eq!(read_back.root(), edge.root());
        edge.push(leaf(1000), |_, _| {});
        read_back.push(leaf(1000), |_, _| {});
        assert_eq!(read_back.root(), edge.root());
    }

    #[test]
    fn subtrees_without_their_entries_give_the_same_tree() {
        let subtree = |at: u64| naive_root(&(at * 256..(at + 1) * 256).map(leaf).collect::<Vec<_>>());
        let (mut whole, mut pruned) = (Edge::default(), Edge::default());
        let (mut filled, mut filled_pruned) = (Vec::new(), Vec::new());
        for at in 0..257 {
            (at * 256..(at + 1) * 256).for_each(|index| whole.push(leaf(index), |tile, _| filled.push(tile)));
            pruned.push_subtree(1, subtree(at), |tile, _| filled_pruned.push(tile));
            assert_eq!((whole.size(), whole.root()), (pruned.size(), pruned.root()));
        }
        whole.push(leaf(70_000), |_, _| {});
        pruned.push(leaf(70_000), |_, _| {});
        assert_eq!((whole.size(), whole.root()), (pruned.size(), pruned.root()));
        filled.retain(|tile| tile.level > Level::Hashes(0));
        assert_eq!((filled_pruned.len(), filled), (1, filled_pruned));
    }

    #[test]
    fn bytes_of_another_length_are_no_tile() {
        assert!(tile_hashes(&[0; 64], 2).is_some());
        assert!(tile_hashes(&[0; 63], 2).is_none());
        assert!(tile_hashes(&[0; 64], 1).is_none());
    }
}

//! The Merkle tree over the records, as far as its right edge: enough to go on from, and to tell its root. Hashes are
//! those of RFC 6962, tiles those of C2SP tlog-tiles: 256 hashes each.

use tlog_tiles::{EMPTY_HASH, Hash, Tile, node_hash};

/// Hashes of a full tile, as a power of two.
pub(super) const TILE_HEIGHT: u8 = 8;
/// Hashes of a full tile.
pub(super) const TILE_WIDTH: usize = 1 << TILE_HEIGHT;

/// The right edge of a tree: at each level of tiles, the hashes of the tile that is not full.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Edge {
    levels: Vec<Vec<Hash>>,
    size: u64,
}

/// A tile to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HashTile {
    pub(super) level: u8,
    pub(super) number: u64,
    pub(super) path: String,
    pub(super) hashes: Vec<Hash>,
}

impl Edge {
    /// Goes on from a tree of that size, whose partial tiles are read by level, number and width.
    pub(super) fn resume<E>(
        size: u64,
        mut read: impl FnMut(u8, u64, usize) -> Result<Vec<Hash>, E>,
    ) -> Result<Self, E> {
        let mut levels = Vec::new();
        for level in 0.. {
            let count = size.checked_shr(u32::from(TILE_HEIGHT) * u32::from(level)).unwrap_or(0);
            if count == 0 {
                break;
            }
            let width = usize::try_from(count % TILE_WIDTH as u64).unwrap_or_default();
            let hashes = match width {
                0 => Vec::new(),
                width => read(level, count >> TILE_HEIGHT, width)?,
            };
            levels.push(hashes);
        }
        Ok(Self { levels, size })
    }

    /// Records in the tree.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a record; answers the tiles that it filled.
    pub(super) fn push(&mut self, leaf: Hash) -> Vec<HashTile> {
        let mut filled = Vec::new();
        let mut hash = leaf;
        self.size += 1;
        for level in 0.. {
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(usize::from(level)) else { break };
            hashes.push(hash);
            if hashes.len() < TILE_WIDTH {
                break;
            }
            let hashes = std::mem::replace(hashes, Vec::with_capacity(TILE_WIDTH));
            hash = subtree(&hashes);
            let number = (self.size >> (u32::from(TILE_HEIGHT) * (u32::from(level) + 1))).saturating_sub(1);
            filled.push(HashTile { level, number, path: hash_path(level, number, TILE_WIDTH), hashes });
        }
        filled
    }

    /// The tiles that are not full, as they stand.
    pub(super) fn partial(&self) -> Vec<HashTile> {
        let tiles = (0_u8..).zip(&self.levels).filter(|(_, hashes)| !hashes.is_empty());
        tiles
            .map(|(level, hashes)| {
                let number = self.size >> (u32::from(TILE_HEIGHT) * (u32::from(level) + 1));
                HashTile {
                    level,
                    number,
                    path: hash_path(level, number, hashes.len()),
                    hashes: hashes.clone(),
                }
            })
            .collect()
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> Hash {
        let mut right: Option<Hash> = None;
        for hashes in &self.levels {
            let mut all = hashes.clone();
            // What is right of a level's full subtrees is one that is not full.
            all.extend(right);
            right = (!all.is_empty()).then(|| subtree(&all));
        }
        right.unwrap_or(EMPTY_HASH)
    }
}

/// The hash over subtrees of the same size, of which the last may be smaller (RFC 6962, section 2.1).
pub(super) fn subtree(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => EMPTY_HASH,
        [one] => *one,
        several => {
            let half = several.len().next_power_of_two() / 2;
            let (left, right) = several.split_at(half);
            node_hash(subtree(left), subtree(right))
        }
    }
}

/// Where the hashes of a level lie.
pub(super) fn hash_path(level: u8, number: u64, width: usize) -> String {
    path(level, number, width, false)
}

/// Where the records themselves lie.
pub(super) fn entries_path(number: u64, width: usize) -> String {
    path(0, number, width, true)
}

/// C2SP leaves the height of tiles out of their paths, since there is but one, and calls records entries.
fn path(level: u8, number: u64, width: usize, is_data: bool) -> String {
    let width = u32::try_from(width).unwrap_or(1 << TILE_HEIGHT);
    let path = Tile::new(TILE_HEIGHT, level, number, width, is_data).path();
    path.replacen("tile/8/", "tile/", 1).replacen("tile/data/", "tile/entries/", 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tlog_tiles::{HashReader, record_hash, stored_hash_index, stored_hashes, tree_hash};

    use super::*;

    struct Stored(Vec<Hash>);

    impl HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
            Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
        }
    }

    #[test]
    fn roots_are_those_of_the_reference_and_an_edge_can_be_taken_up_again() {
        let mut stored = Stored(Vec::new());
        let mut edge = Edge::default();
        let mut tiles = HashMap::new();
        assert_eq!(edge.root(), EMPTY_HASH);
        for number in 0..70_000_u64 {
            let record = number.to_be_bytes();
            assert_eq!(stored.0.len() as u64, stored_hash_index(0, number));
            let hashes = stored_hashes(number, &record, &stored).unwrap();
            stored.0.extend(hashes);
            for tile in edge.push(record_hash(&record)) {
                tiles.insert(tile.path, tile.hashes);
            }
            if number % 997 == 0 || number % 256 == 255 || number == 65_535 {
                assert_eq!(edge.root(), tree_hash(number + 1, &stored).unwrap(), "{number}");
                let partial: HashMap<String, Vec<Hash>> =
                    edge.partial().into_iter().map(|tile| (tile.path, tile.hashes)).collect();
                let again = Edge::resume(number + 1, |level, number, width| {
                    let path = hash_path(level, number, width);
                    partial.get(&path).cloned().ok_or(path)
                });
                let again = again.unwrap();
                assert_eq!((again.root(), again.size()), (edge.root(), number + 1));
            }
        }
        assert_eq!(tiles.len(), 273 + 1);
        assert_eq!(tiles["tile/0/272"].len(), 256);
        assert_eq!(tiles["tile/1/000"][0], subtree(&tiles["tile/0/000"]));
        assert_eq!(entries_path(1_234_067, 70), "tile/entries/x001/x234/067.p/70");
    }
}

//! Proofs that a record is in the tree: a checkpoint as it was signed, and the hashes beside the way from the record's leaf
//! to the root (RFC 6962, section 2.1.1), read from the tiles.
//!
//! Invariant: hashes that do not make the root which was signed give no proof.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tlog_tiles::{Checkpoint, HASH_SIZE, Hash, Tile, TileHashReader, TileReader, prove_record, record_hash};
use tokio::sync::oneshot;

use super::log::{AuditError, CHECKPOINT, Log};
use super::reading::{parse_checkpoint, read_file, read_tile};
use super::tree::{TILE_HEIGHT, TILE_WIDTH, hash_path};

/// A record that is in the tree, and all that proves it.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    /// The record's bytes: its leaf.
    pub(crate) leaf: Vec<u8>,
    /// The leaf's number.
    pub(crate) index: u64,
    /// The hashes from the leaf's neighbour up.
    pub(crate) proof: Vec<Hash>,
    /// The signed note of the root.
    pub(crate) checkpoint: String,
    /// Of whom it says that it is.
    pub(crate) origin: String,
    /// Leaves of the tree.
    pub(crate) size: u64,
    /// Its root.
    pub(crate) root: Hash,
}

/// Why there is no proof of a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The record will be written when the disk takes it.
    #[error("the audit log cannot be written; the execution will be recorded when it can")]
    Unwritten,
    /// The record is there, and the tree is not as it should be.
    #[error("the audit log is damaged; `mentat audit verify` says where")]
    Damaged,
}

/// What comes of a wish for a proof; no answer where the writer has ended.
pub(super) type Answer = oneshot::Sender<Result<Proven, ProofError>>;

/// A record whose proof somebody waits for.
pub(super) struct Wanted {
    pub(super) index: u64,
    pub(super) leaf: Vec<u8>,
    pub(super) answer: Answer,
}

/// The tree as the last checkpoint has it, for as many proofs as are wanted of it.
struct Prover {
    note: String,
    checkpoint: Checkpoint,
    tiles: Tiles,
}

/// Answers all who wait for proofs of records that are in the tree. Whoever has gone away is not answered.
pub(super) fn answer(folder: &Path, wanted: Vec<Wanted>) {
    let mut wanted = wanted.into_iter().filter(|wanted| !wanted.answer.is_closed()).peekable();
    if wanted.peek().is_none() {
        return;
    }
    let damaged = |error: AuditError| {
        tracing::error!(%error, "records of the audit log cannot be proven");
        ProofError::Damaged
    };
    let prover = Prover::open(folder).map_err(damaged);
    for Wanted { index, leaf, answer } in wanted {
        let proven = match &prover {
            Ok(prover) => prover.prove(index, leaf).map_err(damaged),
            Err(error) => Err(error.clone()),
        };
        let _ = answer.send(proven);
    }
}

/// Whether a record is in the tree of a log as that has signed it.
pub(super) fn is_logged(log: &Log, index: u64, leaf: Vec<u8>) -> bool {
    let proven = Prover::open(log.folder()).and_then(|prover| prover.prove(index, leaf));
    proven.is_ok_and(|proven| (proven.size, proven.root) == (log.size(), log.root()))
}

impl Prover {
    /// Reads the checkpoint of a log.
    fn open(folder: &Path) -> Result<Self, AuditError> {
        let path = folder.join(CHECKPOINT);
        let note = read_file(&path)?;
        let broken = |why: String| AuditError::Broken { path: path.clone(), why };
        let checkpoint = parse_checkpoint(&note).map_err(broken)?;
        let note = String::from_utf8(note).map_err(|error| broken(error.to_string()))?;
        Ok(Self { note, checkpoint, tiles: Tiles { folder: folder.into(), read: RefCell::default() } })
    }

    /// Proves that a record is the leaf of that number.
    fn prove(&self, index: u64, leaf: Vec<u8>) -> Result<Proven, AuditError> {
        let (size, root) = (self.checkpoint.size(), *self.checkpoint.hash());
        let broken = |why: String| AuditError::Broken { path: self.tiles.folder.join("tile"), why };
        let hashes = TileHashReader::new(size, root, &self.tiles);
        let proof = prove_record(size, index, &hashes)
            .map_err(|error| broken(format!("record {index} cannot be proven: {error}")))?;
        tlog_tiles::check_record(&proof, size, root, index, record_hash(&leaf))
            .map_err(|_| broken(format!("record {index} is not the one that was logged")))?;
        let (checkpoint, origin) = (self.note.clone(), self.checkpoint.origin().to_owned());
        Ok(Proven { leaf, index, proof, checkpoint, origin, size, root })
    }
}

/// Tiles of hashes; those of one checkpoint are read once.
struct Tiles {
    folder: PathBuf,
    read: RefCell<HashMap<String, Vec<u8>>>,
}

impl TileReader for Tiles {
    fn height(&self) -> u8 {
        TILE_HEIGHT
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let mut known = self.read.borrow_mut();
        let mut read = |tile: &Tile| {
            let width = usize::try_from(tile.width()).unwrap_or(TILE_WIDTH);
            let path = hash_path(tile.level(), tile.level_index(), width);
            if let Some(bytes) = known.get(&path) {
                return Ok(bytes.clone());
            }
            let hashes = read_tile(&self.folder, tile.level(), tile.level_index(), width)
                .map_err(|error| tlog_tiles::Error::InvalidInput(error.to_string()))?;
            let mut bytes = Vec::with_capacity(width * HASH_SIZE);
            bytes.extend(hashes.iter().flat_map(|hash| hash.0));
            known.insert(path, bytes.clone());
            Ok(bytes)
        };
        tiles.iter().map(&mut read).collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

#[cfg(test)]
mod tests {
    use signed_note::{Note, StandardSigner};

    use super::*;
    use crate::security::audit::tree::{Edge, HashTile};

    fn write(folder: &Path, tiles: &[HashTile]) {
        for tile in tiles {
            let path = folder.join(&tile.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, tile.hashes.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>()).unwrap();
        }
    }

    fn sign(folder: &Path, edge: &Edge, signer: &StandardSigner) {
        let checkpoint = Checkpoint::new("test.log", edge.size(), edge.root(), "").unwrap();
        let mut note = Note::new(&checkpoint.to_bytes(), &[]).unwrap();
        note.add_sigs(&[signer]).unwrap();
        std::fs::write(folder.join(CHECKPOINT), note.to_bytes()).unwrap();
    }

    #[test]
    fn records_are_proven_in_trees_of_one_two_and_three_levels_of_tiles() {
        let folder = tempfile::tempdir().unwrap();
        let (key, _) = signed_note::generate_key(&mut rand_core::OsRng, "test.log");
        let signer = StandardSigner::new(&key).unwrap();
        let mut edge = Edge::default();
        for number in 0..65_700_u64 {
            write(folder.path(), &edge.push(record_hash(&number.to_be_bytes())));
            let size = number + 1;
            if ![1, 2, 255, 256, 257, 1000, 65_535, 65_536, 65_537, 65_700].contains(&size) {
                continue;
            }
            write(folder.path(), &edge.partial());
            sign(folder.path(), &edge, &signer);
            let prover = Prover::open(folder.path()).unwrap();
            for index in [0, 1, size / 2, 255, 256, 65_535, size - 1] {
                let proven = prover.prove(index, index.to_be_bytes().to_vec());
                // It checks what it proves.
                assert_eq!(proven.is_ok(), index < size, "{index} of {size}: {proven:?}");
                assert!(prover.prove(index, b"another".to_vec()).is_err(), "{index} of {size}");
            }
        }
    }

    #[test]
    fn a_tree_that_is_not_the_one_that_was_signed_proves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (key, _) = signed_note::generate_key(&mut rand_core::OsRng, "test.log");
        let mut edge = Edge::default();
        for number in 0..300_u64 {
            write(folder.path(), &edge.push(record_hash(&number.to_be_bytes())));
        }
        write(folder.path(), &edge.partial());
        sign(folder.path(), &edge, &StandardSigner::new(&key).unwrap());
        let tile = folder.path().join("tile/0/000");
        let mut bytes = std::fs::read(&tile).unwrap();
        bytes[0] ^= 1;
        std::fs::write(&tile, bytes).unwrap();
        let leaf = 7_u64.to_be_bytes().to_vec();
        assert!(Prover::open(folder.path()).unwrap().prove(7, leaf.clone()).is_err());
        std::fs::remove_file(&tile).unwrap();
        assert!(Prover::open(folder.path()).unwrap().prove(7, leaf).is_err());
    }
}

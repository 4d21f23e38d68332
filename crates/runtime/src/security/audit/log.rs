//! The log on disk. New records go to the file `pending`, one a line, and are safe there; from time to time they are
//! moved into the tree: tiles of records and of hashes, then a signed checkpoint, then `pending` begins anew. Whatever
//! moment the machine stops at, what was written is found again.
//!
//! Invariant: nothing in `tile/` is written twice but tiles that are not full, which are named by their width; and one
//! process writes, the one that holds the lock.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use signed_note::{Note, Signer, StandardSigner, Verifier};
use tlog_tiles::{Checkpoint, Hash, record_hash};

use super::config::SyncMode;
use super::entries::{Entries, MAX_RECORD_BYTES};
use super::files::{WholeFiles, sync_folder, write_whole};
use super::reading::{
    Bundle, are_waiting, beyond, is_missing, read_bundle, read_file, read_open_pending, read_tile,
};
use super::tag::{self, Tagger};
use super::tree::{Edge, HashTile, TILE_WIDTH, entries_path};
use super::verify::{public_key, signed_checkpoint};
use super::{Event, Record};

/// The file of records that are not in the tree yet.
pub(super) const PENDING: &str = "pending";
/// The signed root.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The private key that signs it, and the public one.
pub(super) const KEY: &str = "key";
pub(super) const PUBLIC_KEY: &str = "key.pub";
/// What is signed to see whether the two belong together.
const PURPOSE_OF_CHECK: &[u8] = b"is this the other half of the pair?";
/// The file that the process which writes has locked, and its folder with it. It stays, empty.
const LOCK: &str = "lock";
/// The folder of tiles.
const TREE: &str = "tile";

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file cannot be read or written.
    #[error("audit log: `{}`: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is no log, or not this one.
    #[error("audit log: `{}`: {why}", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process writes it.
    #[error(
        "audit log: `{}` is written by another server; stop that one, or give this one a folder of its own as `audit.dir`",
        folder.display()
    )]
    InUse {
        /// The log's folder.
        folder: PathBuf,
    },
}

/// An open log.
pub(super) struct Log {
    folder: PathBuf,
    origin: String,
    sync: SyncMode,
    signer: StandardSigner,
    tagger: Tagger,
    /// Keep others from writing, until they are dropped.
    _locks: [File; 2],
    edge: Edge,
    /// Records of the last tile of records, as far as they are in the tree.
    entries: Vec<u8>,
    pending: File,
    /// Bytes of `pending` that are whole records.
    pending_bytes: u64,
    /// Those records, which the tree has not, and their hashes.
    waiting: Entries,
    hashes: Vec<Hash>,
    /// What is written to `pending` at once; kept for its room.
    lines: Vec<u8>,
}

impl Log {
    /// Opens a log, or begins one. What a crash left in `pending` is taken up; a last record that was not written whole
    /// is left out.
    ///
    /// # Errors
    /// When another process writes it, a file cannot be used, or what is there is not what this log's key has signed:
    /// going on would sign what somebody else made of it.
    pub(super) fn open(folder: &Path, origin: &str, sync: SyncMode) -> Result<Self, AuditError> {
        let at = |name: &str| folder.join(name);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| AuditError::File { path: folder.into(), source })?;
        let locks = lock(folder)?;
        let (signer, tagger) = key(folder, origin)?;
        let checkpoint = signed_checkpoint(folder, None)?
            .map_err(|fault| tampered(&at(CHECKPOINT), &fault.to_string()))?;
        let size = checkpoint.as_ref().map_or(0, Checkpoint::size);
        let lost = |error: AuditError| tampered(&at(TREE), &error.to_string());
        let tile = |level, number, width| read_tile(folder, level, number, width);
        let edge = Edge::resume(size, tile).map_err(lost)?;
        if let Some(checkpoint) = checkpoint {
            if *checkpoint.hash() != edge.root() {
                return Err(tampered(&at(TREE), "its hashes do not make the root that was signed"));
            }
            if checkpoint.origin() != origin {
                let why = format!(
                    "the log calls itself `{}`, `audit.origin` says `{origin}`; a log keeps its name",
                    checkpoint.origin()
                );
                return Err(broken(&at(CHECKPOINT), why));
            }
        }
        let width = usize::try_from(size % TILE_WIDTH as u64).unwrap_or_default();
        let mut entries = Entries::default();
        if width > 0 {
            let number = size / TILE_WIDTH as u64;
            let records = read_bundle(folder, number, width).and_then(Bundle::whole).map_err(lost)?;
            let hashes: Vec<Hash> = records.iter().map(|record| record_hash(record)).collect();
            if hashes != tile(0, number, width).map_err(lost)? {
                return Err(tampered(&at(TREE), "its last records are not those that were signed"));
            }
            if !records.iter().all(|record| entries.push(record)) {
                return Err(broken(&at(TREE), too_long()));
            }
        }
        let mut pending = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(at(PENDING))
            .map_err(|source| AuditError::File { path: at(PENDING), source })?;
        let text = read_open_pending(&mut pending, &at(PENDING))?;
        let (mut waiting, mut hashes) = (Entries::default(), Vec::new());
        let (mut lines, mut pending_bytes) = (Vec::new(), 0);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            let next = size + waiting.len() as u64;
            if !tagger.is_tagged(line) {
                let why = format!(
                    "what stands there for record {next} was not written by this server; what a server without tags has \
                     left, that one signs when it is started and stopped once more"
                );
                return Err(tampered(&at(PENDING), &why));
            }
            pending_bytes += line.len() as u64 + 1;
            let line = tag::record(line);
            let Ok(record) = serde_json::from_slice::<Record>(line) else {
                return Err(broken(&at(PENDING), format!("what stands there for record {next} is none")));
            };
            // A crash between the checkpoint and the new beginning leaves records here that the tree has.
            if record.sequence < size {
                continue;
            }
            if record.sequence != next {
                let why = format!("record {} stands where record {next} belongs", record.sequence);
                return Err(tampered(&at(PENDING), &why));
            }
            let record = without_leave(line);
            if !waiting.push(&record) {
                return Err(broken(&at(PENDING), too_long()));
            }
            hashes.push(record_hash(&record));
            lines.push(line.to_vec());
        }
        // Records that were moved into the tree just before a crash wait here still; others nobody moved.
        if !are_waiting(&beyond(folder, size), size, lines.iter()) {
            let why = format!("it is over {size} records, and there are more: it is an old one, or none");
            return Err(tampered(&at(CHECKPOINT), &why));
        }
        if !waiting.is_empty() {
            tracing::info!(
                records = waiting.len(),
                first = size,
                "records that were not signed before are taken up"
            );
        }
        let (folder, origin) = (folder.to_owned(), origin.to_owned());
        let entries = entries.bundle(0..entries.len()).to_vec();
        let mut log = Self {
            folder,
            origin,
            sync,
            signer,
            tagger,
            _locks: locks,
            edge,
            entries,
            pending,
            pending_bytes,
            waiting,
            hashes,
            lines: Vec::new(),
        };
        log.rewind()?;
        Ok(log)
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Records that the signed checkpoint is over.
    pub(super) fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The root of those.
    pub(super) fn root(&self) -> Hash {
        self.edge.root()
    }

    /// The number of the next record.
    pub(super) fn next(&self) -> u64 {
        self.edge.size() + self.waiting.len() as u64
    }

    /// The key that signs checkpoints.
    pub(super) fn signer(&self) -> &StandardSigner {
        &self.signer
    }

    /// Whether there are records that the tree has not.
    pub(super) fn has_pending(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes records, all or none of them, and takes those that are written.
    pub(super) fn append(&mut self, records: &mut Entries) -> Result<(), AuditError> {
        self.lines.clear();
        let hashed = self.hashes.len();
        for record in records.iter() {
            let hash = record_hash(record);
            self.tagger.write(&mut self.lines, record, &hash);
            self.hashes.push(hash);
        }
        if let Err(source) = self.pending.write_all(&self.lines) {
            self.hashes.truncate(hashed);
            // A disk that is full has taken a part.
            self.rewind()?;
            return Err(AuditError::File { path: self.folder.join(PENDING), source });
        }
        self.pending_bytes += self.lines.len() as u64;
        self.waiting.append(records);
        Ok(())
    }

    /// Bytes of the records that wait, and of the room for them.
    pub(super) fn room(&self) -> (usize, usize) {
        self.waiting.room()
    }

    /// Gives back the room that is not used.
    pub(super) fn shrink(&mut self) {
        self.lines = Vec::new();
        self.waiting.shrink();
        self.hashes.shrink_to_fit();
    }

    /// Puts another file in the place of the one that records are written to.
    #[cfg(test)]
    pub(super) fn replace_pending(&mut self, pending: File) -> File {
        std::mem::replace(&mut self.pending, pending)
    }

    /// Waits until what was written is on the disk itself.
    pub(super) fn sync(&self) -> Result<(), AuditError> {
        let failed = |source| AuditError::File { path: self.folder.join(PENDING), source };
        self.pending.sync_data().map_err(failed)
    }

    /// Moves the pending records into the tree and signs its new root.
    pub(super) fn integrate(&mut self) -> Result<(), AuditError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (mut edge, mut entries) = (self.edge.clone(), self.entries.clone());
        let mut files = self.files();
        // Those of the waiting ones that are in bundles.
        let mut bundled = 0;
        for (count, hash) in (1..).zip(&self.hashes) {
            let filled = edge.push(*hash);
            if edge.size() % TILE_WIDTH as u64 == 0 {
                let number = edge.size() / TILE_WIDTH as u64 - 1;
                let bundle = self.waiting.bundle(bundled..count);
                if entries.is_empty() {
                    files.write(&entries_path(number, TILE_WIDTH), bundle)?;
                } else {
                    entries.extend_from_slice(bundle);
                    files.write(&entries_path(number, TILE_WIDTH), &entries)?;
                    entries.clear();
                }
                bundled = count;
            }
            for tile in filled {
                files.write(&tile.path, &hashes(&tile))?;
            }
        }
        entries.extend_from_slice(self.waiting.bundle(bundled..self.waiting.len()));
        let width = usize::try_from(edge.size() % TILE_WIDTH as u64).unwrap_or_default();
        if width > 0 {
            files.write(&entries_path(edge.size() / TILE_WIDTH as u64, width), &entries)?;
        }
        for tile in edge.partial() {
            files.write(&tile.path, &hashes(&tile))?;
        }
        files.give_names()?;
        self.sign(&edge)?;
        let before = std::mem::replace(&mut self.edge, edge);
        self.entries = entries;
        self.waiting.clear();
        self.hashes.clear();
        self.pending_bytes = 0;
        // Another file in its place, so that whoever reads has the old one whole. A full disk may refuse that.
        if self.renew_pending().is_err() {
            self.rewind()?;
        }
        self.forget_partial(&before);
        Ok(())
    }

    fn sign(&self, edge: &Edge) -> Result<(), AuditError> {
        let path = self.folder.join(CHECKPOINT);
        let wrong = |why: String| broken(&path, why);
        let checkpoint = Checkpoint::new(&self.origin, edge.size(), edge.root(), "")
            .map_err(|error| wrong(error.to_string()))?;
        let mut note = Note::new(&checkpoint.to_bytes(), &[]).map_err(|error| wrong(format!("{error:?}")))?;
        note.add_sigs(&[&self.signer]).map_err(|error| wrong(format!("{error:?}")))?;
        let mut files = self.files();
        files.write(CHECKPOINT, &note.to_bytes())?;
        files.give_names()
    }

    /// Removes the tiles that were not full and now are wider; whoever reads them now finds the wider ones.
    fn forget_partial(&self, before: &Edge) {
        let kept: Vec<String> = self.edge.partial().into_iter().map(|tile| tile.path).collect();
        let entries = |edge: &Edge| {
            let width = usize::try_from(edge.size() % TILE_WIDTH as u64).unwrap_or_default();
            (width > 0).then(|| entries_path(edge.size() / TILE_WIDTH as u64, width))
        };
        let old = before.partial().into_iter().map(|tile| tile.path).chain(entries(before));
        for path in old.filter(|path| !kept.contains(path) && Some(path) != entries(&self.edge).as_ref()) {
            // One that stays costs room and nothing else.
            let _ = std::fs::remove_file(self.folder.join(path));
        }
    }

    fn files(&self) -> WholeFiles<'_> {
        WholeFiles::new(&self.folder, self.sync != SyncMode::Never)
    }

    /// Begins a new file of pending records.
    fn renew_pending(&mut self) -> Result<(), AuditError> {
        let path = self.folder.join(PENDING);
        let failed = |source| AuditError::File { path: path.clone(), source };
        let made = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)
            .map_err(failed)?;
        self.pending = made.persist(&path).map_err(|error| failed(error.error))?;
        if self.sync == SyncMode::Group {
            // Its name too: what is waited for next is in this file.
            sync_folder(&self.folder)?;
        }
        Ok(())
    }

    /// Goes back to the end of the last whole record.
    fn rewind(&mut self) -> Result<(), AuditError> {
        let failed = |source| AuditError::File { path: self.folder.join(PENDING), source };
        self.pending.set_len(self.pending_bytes).map_err(failed)?;
        self.pending.seek(SeekFrom::Start(self.pending_bytes)).map(drop).map_err(failed)
    }
}

/// A record that waits, without what it lets go where it is leave to take records out: nobody has signed it yet, and
/// nothing can have gone by it. The server asks anew.
pub(super) fn without_leave(line: &[u8]) -> Vec<u8> {
    let Ok(mut record) = serde_json::from_slice::<Record>(line) else { return line.to_vec() };
    let Event::Retention { retention } = &mut record.event else { return line.to_vec() };
    retention.first_kept = 0;
    serde_json::to_vec(&record).unwrap_or_else(|_| line.to_vec())
}

/// Takes the locks of the log, which the system gives back when this process ends, however it does: of the folder, since a
/// file in it could be replaced and both be locked; and of a file, since not every file system shares locks of folders
/// between machines.
fn lock(folder: &Path) -> Result<[File; 2], AuditError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let opened = [(folder, File::open(folder)), (&path, file)];
    let [one, other] = opened.map(|(path, opened)| {
        let failed = |source| AuditError::File { path: path.into(), source };
        let locked = opened.map_err(failed)?;
        match flock(&locked, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(locked),
            Err(Errno::WOULDBLOCK) => Err(AuditError::InUse { folder: folder.into() }),
            Err(error) => Err(failed(error.into())),
        }
    });
    Ok([one?, other?])
}

fn hashes(tile: &HashTile) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(tile.hashes.as_slice()));
    tile.hashes.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
    bytes
}

fn too_long() -> String {
    format!("a record has more than {MAX_RECORD_BYTES} bytes")
}

fn tampered(path: &Path, why: &str) -> AuditError {
    let advice = "`mentat audit verify` says more; to begin a new log, name another folder as `audit.dir`";
    broken(path, format!("{why}; {advice}"))
}

pub(super) fn broken(path: &Path, why: String) -> AuditError {
    AuditError::Broken { path: path.into(), why }
}

/// The key that signs checkpoints: made when the log begins, in the form of signed notes.
fn key(folder: &Path, origin: &str) -> Result<(StandardSigner, Tagger), AuditError> {
    let path = folder.join(KEY);
    let text = match read_file(&path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if is_missing(&error) => {
            // A key made now would not be the one that signed what is there.
            if let Some(there) = [CHECKPOINT, TREE, PENDING].iter().find(|name| folder.join(name).exists()) {
                let why = format!(
                    "it is gone, and there is a log (`{there}`) that only it can go on with; put it back, or name another \
                     folder as `audit.dir`"
                );
                return Err(broken(&path, why));
            }
            let (private, public) = signed_note::generate_key(&mut rand_core::OsRng, origin);
            write_whole(folder, PUBLIC_KEY, format!("{public}\n").as_bytes(), 0o644)?;
            write_whole(folder, KEY, private.as_bytes(), 0o600)?;
            sync_folder(folder)?;
            private
        }
        Err(error) => return Err(error),
    };
    let signer =
        StandardSigner::new(text.trim()).map_err(|_| broken(&path, "it is no key of signed notes".into()))?;
    let public = folder.join(PUBLIC_KEY);
    let text_of_public = read_file(&public).map_err(|error| tampered(&public, &error.to_string()))?;
    let is_pair = public_key(&text_of_public).is_some_and(|verifier| {
        let signed = signer.sign(PURPOSE_OF_CHECK).unwrap_or_default();
        verifier.name() == Signer::name(&signer) && verifier.verify(PURPOSE_OF_CHECK, &signed)
    });
    if !is_pair {
        return Err(broken(
            &path,
            format!("`{PUBLIC_KEY}` is of another key; put back the one that belongs to it"),
        ));
    }
    Ok((signer, Tagger::new(&text)))
}

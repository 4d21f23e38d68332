//! Compiled code on disk: an artifact for each module, the way its code is made, and engine, authenticated by a keyed
//! digest (AEGIS-256X4 as a MAC, RFC 10032), so that bytes which this installation did not write are never mapped as code.
//! Processes share the directory; what was used least recently goes when it grows beyond its budget.
//!
//! An artifact is one file: Wasmtime's own, which is an ELF file, and behind it what the module says of itself, so that
//! code comes back without the module's bytes being read; then the tag, the length of that text, and a mark with the
//! version of this form.
//!
//! Invariant: an artifact is visible under its name only when it is whole and durable; a changed byte is a miss that is
//! told, and never run.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aegis::aegis256x4::Aegis256X4Mac;
use mentat_manifest::{ByteCount, Init, Metering, ModuleDigest};
use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use super::inspect::ModuleInfo;
use super::loader::ModuleKey;
use crate::error::Error;

/// Compiled code of past compiles.
#[derive(Debug)]
pub(crate) struct ArtifactCache {
    directory: PathBuf,
    key: [u8; KEY_BYTES],
    budget: ByteCount,
    evictions: AtomicU64,
}

/// Code that this installation wrote.
pub(crate) struct Artifact {
    /// To be mapped.
    pub(crate) file: File,
    /// What the module says of itself.
    pub(crate) info: ModuleInfo,
}

/// An artifact that is none of this installation's, or was changed.
#[derive(Debug, thiserror::Error)]
#[error("`{file}`: {reason}")]
pub(crate) struct Refused {
    /// The name of its file.
    pub(crate) file: String,
    /// What is wrong with it.
    pub(crate) reason: io::Error,
}

type Tag = [u8; TAG_BYTES];
type Mac = Aegis256X4Mac<TAG_BYTES>;

/// What stands behind the code.
#[derive(Serialize, Deserialize)]
struct Facts {
    info: ModuleInfo,
    /// Not told to users, and so not in the form of `info`.
    core_instances: u32,
}

/// Bytes of a part of an artifact, which has a tag of its own; the last may be shorter. Part of an artifact's form.
const PART_BYTES: u64 = 128 << 10;
/// Threads that make the tags of one artifact's parts.
const THREADS: u64 = 2;
/// What is authenticated that is no part.
const WHOLE: u64 = u64::MAX;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 32;
/// At the end of each artifact, with the version of its form.
const MARK: &[u8; 8] = b"mentat\x00\x04";
/// Bytes behind what the module says of itself: tag, length, mark.
const FOOTER_BYTES: usize = TAG_BYTES + 8 + MARK.len();
/// Bytes of what a module says of itself at most: names of all its imports and exports.
const MAX_FACTS_BYTES: u64 = 64 << 20;
const EXTENSION: &str = "cwasm";
/// What was refused lies under its name with this in place of that.
const REFUSED: &str = "refused";
const SCRATCH_PREFIX: &str = ".compiling-";
/// No compile takes as long as this, so an older scratch file belongs to a process that was killed.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How exactly it is known when an artifact was used last: noting it is a write to the disk.
const NOTED_EVERY: Duration = Duration::from_secs(60);

impl ArtifactCache {
    /// Opens the cache in `directory`, making it and its key when new.
    pub(crate) fn open(directory: &Path, budget: ByteCount) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::internal(format!("opening the artifact cache `{}`", directory.display()), error)
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let key = read_or_make_key(&directory.join("key")).map_err(failed)?;
        sweep(directory).map_err(failed)?;
        let cache = Self { directory: directory.to_owned(), key, budget, evictions: AtomicU64::new(0) };
        cache.evict(None).map_err(failed)?;
        Ok(cache)
    }

    /// A path for a compiler to write to; the file goes away unless it is kept.
    pub(crate) fn scratch(&self) -> io::Result<TempPath> {
        let file = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempfile_in(&self.directory)?;
        Ok(file.into_temp_path())
    }

    /// The artifact, if there is one. Reads all of it, and puts aside what is refused.
    ///
    /// # Errors
    /// When it is not what this installation wrote.
    pub(crate) fn get(&self, key: &ModuleKey, compatibility: u64) -> Result<Option<Artifact>, Refused> {
        let name = name(key, compatibility);
        match self.open_authentic(&name) {
            Ok(artifact) => Ok(Some(artifact)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(reason) => {
                // Out of the way, and told once; whoever wants to know what was changed finds it there.
                let path = self.directory.join(&name);
                let _ = std::fs::rename(&path, path.with_extension(REFUSED));
                Err(Refused { file: name, reason })
            }
        }
    }

    /// Keeps what a compiler wrote to a scratch path, durably, and opens it.
    pub(crate) fn keep(
        &self,
        key: &ModuleKey,
        compatibility: u64,
        info: &ModuleInfo,
        scratch: TempPath,
    ) -> io::Result<File> {
        let name = name(key, compatibility);
        let mut file = OpenOptions::new().read(true).append(true).open(&scratch)?;
        let facts = Facts { info: info.clone(), core_instances: info.core_instances };
        let facts = serde_json::to_vec(&facts)?;
        file.write_all(&facts)?;
        let content = file.metadata()?.len();
        let tag = self.tag(&name, &file, content, facts.len() as u64)?;
        file.write_all(&tag.finalize())?;
        file.write_all(&(facts.len() as u64).to_le_bytes())?;
        file.write_all(MARK)?;
        file.sync_all()?;
        // Not the one that can be written.
        let kept = File::open(&scratch)?;
        let path = self.directory.join(&name);
        scratch.persist(&path).map_err(|error| error.error)?;
        File::open(&self.directory)?.sync_all()?;
        self.evict(Some(&path))?;
        Ok(kept)
    }

    /// Removes the artifacts of these modules; who has one open keeps it.
    pub(crate) fn remove(&self, these: impl Fn(ModuleDigest) -> bool) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let digest =
                name.to_str().and_then(|name| format!("sha256:{}", name.split_once('-')?.0).parse().ok());
            if digest.is_some_and(&these) {
                // What stays takes room and does no harm; it goes when there is too much.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Artifacts that went to make room for others.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Removes those that were used least recently, until the rest is within the budget; never `new`.
    fn evict(&self, new: Option<&Path>) -> io::Result<()> {
        let mut artifacts = Vec::new();
        let mut bytes: u64 = 0;
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            // Another process may have been faster.
            let Ok(metadata) = path.metadata() else { continue };
            bytes = bytes.saturating_add(metadata.len());
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            artifacts.push((used, metadata.len(), path));
        }
        artifacts.sort();
        for (_, size, path) in artifacts {
            if bytes <= self.budget.0 {
                break;
            }
            if Some(path.as_path()) != new && std::fs::remove_file(&path).is_ok() {
                bytes = bytes.saturating_sub(size);
                self.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn open_authentic(&self, name: &str) -> io::Result<Artifact> {
        let mut file = File::open(self.directory.join(name))?;
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let metadata = file.metadata()?;
        let content =
            metadata.len().checked_sub(FOOTER_BYTES as u64).ok_or_else(|| wrong("it is too short"))?;
        file.seek(SeekFrom::Start(content))?;
        let (mut tag, mut length, mut mark) = ([0; TAG_BYTES], [0; 8], [0; MARK.len()]);
        file.read_exact(&mut tag)?;
        file.read_exact(&mut length)?;
        file.read_exact(&mut mark)?;
        if mark != *MARK {
            return Err(wrong("it does not end as artifacts do"));
        }
        let length = u64::from_le_bytes(length);
        // Compared in constant time.
        if self.tag(name, &file, content, length)?.verify(&tag).is_err() {
            return Err(wrong("its keyed digest does not match"));
        }
        let begin = content.checked_sub(length).filter(|_| length <= MAX_FACTS_BYTES);
        file.seek(SeekFrom::Start(begin.ok_or_else(|| wrong("its length is none"))?))?;
        let mut facts = Vec::new();
        (&mut file).take(length).read_to_end(&mut facts)?;
        let Facts { info, core_instances } = serde_json::from_slice(&facts)?;
        let info = ModuleInfo { core_instances, ..info };
        if metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|since| since > NOTED_EVERY)) {
            // Who may not note it has an artifact that looks old, and no other harm.
            let _ = file.set_modified(SystemTime::now());
        }
        file.seek(SeekFrom::Start(0))?;
        Ok(Artifact { file, info })
    }

    /// Over the name and the content, so that one module's code cannot be put in another's place. The content goes in as
    /// the tags of its parts.
    fn tag(&self, name: &str, file: &File, content: u64, facts: u64) -> io::Result<Mac> {
        let mut whole = self.mac(WHOLE);
        whole.update(&(name.len() as u64).to_le_bytes());
        whole.update(name.as_bytes());
        whole.update(&content.to_le_bytes());
        whole.update(&facts.to_le_bytes());
        for (_, tag) in self.tags_of_parts(file, content)? {
            whole.update(&tag);
        }
        Ok(whole)
    }

    /// Each part's tag by its number, in their order. Whoever waits for code waits for this, so it is done by several
    /// threads; none has a share of its own to do, since one that is slow to start would be waited for.
    fn tags_of_parts(&self, file: &File, content: u64) -> io::Result<Vec<(u64, Tag)>> {
        let (parts, next) = (content.div_ceil(PART_BYTES), AtomicU64::new(0));
        let some = || {
            let (mut tags, mut buffer) = (Vec::new(), Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= parts {
                    return Ok(tags);
                }
                let at = number * PART_BYTES;
                buffer.resize(usize::try_from((content - at).min(PART_BYTES)).unwrap_or_default(), 0);
                file.read_exact_at(&mut buffer, at)?;
                let mut part = self.mac(number);
                part.update(&buffer);
                tags.push((number, part.finalize()));
            }
        };
        let mut tags: Vec<(u64, Tag)> = std::thread::scope(|scope| {
            let others = 1..THREADS.min(parts);
            // Where the system gives no thread, the others do it.
            let others = others.filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, some).ok());
            let others: Vec<_> = others.collect();
            let mut tags = some()?;
            for other in others {
                tags.extend(other.join().unwrap_or_else(|_| Err(io::Error::other("a thread ended")))?);
            }
            io::Result::Ok(tags)
        })?;
        tags.sort_unstable_by_key(|(number, _)| *number);
        Ok(tags)
    }

    /// By the cache's key, for one of the things that are authenticated: with another nonce, it is another function.
    fn mac(&self, what: u64) -> Mac {
        let mut nonce = [0; KEY_BYTES];
        nonce.iter_mut().zip(what.to_le_bytes()).for_each(|(byte, of_what)| *byte = of_what);
        Mac::new_with_nonce(&self.key, &nonce)
    }
}

/// The file's name: Wasmtime refuses code of another configuration, and another name keeps both.
fn name(key: &ModuleKey, compatibility: u64) -> String {
    let metering = match key.metering {
        Metering::Fuel => "fuel",
        Metering::Epoch => "epoch",
    };
    let init = match key.init {
        None => "",
        Some(Init::Snapshot) => "-snapshot",
    };
    format!("{}-{metering}{init}-{compatibility:016x}.{EXTENSION}", key.digest.hex())
}

/// Removes what killed processes left; the directory may be in use by others.
fn sweep(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let is_scratch = entry.file_name().as_encoded_bytes().starts_with(SCRATCH_PREFIX.as_bytes());
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|time| time.elapsed().ok());
        if is_scratch && age.is_some_and(|age| age > ABANDONED_AFTER) {
            // Another process may have been faster.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn read_or_make_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    match File::open(path) {
        Ok(mut file) => {
            file.read_exact(&mut key)?;
            return Ok(key);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file =
        tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o600)).tempfile_in(directory)?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            File::open(directory)?.sync_all()?;
            Ok(key)
        }
        // Another process was faster: its key counts.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            File::open(path)?.read_exact(&mut key)?;
            Ok(key)
        }
        Err(error) => Err(error.error),
    }
}

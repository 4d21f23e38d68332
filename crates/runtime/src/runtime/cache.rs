//! Compiled code on disk: an artifact for each module, the way its code is made, and engine, authenticated by keyed digests,
//! so that bytes which this installation did not write are never executed. Processes share the directory; what was used least
//! recently goes when it grows beyond its budget.
//!
//! An artifact is one file: Wasmtime's own, which is an ELF file, and behind it what the module says of itself, so that
//! code comes back without the module's bytes being read; then what authenticates both.
//!
//! Invariant: an artifact is visible under its name only when it is whole and durable; a changed byte is a miss that is
//! told, and never run.

mod authentic;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use mentat_manifest::{ByteCount, Init, Metering, ModuleDigest};
use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use self::authentic::{Authenticator, KEY_BYTES};
use super::inspect::ModuleInfo;
use super::loader::ModuleKey;
use crate::error::Error;

/// Compiled code of past compiles.
#[derive(Debug)]
pub(crate) struct ArtifactCache {
    directory: PathBuf,
    authenticator: Authenticator,
    budget: ByteCount,
    evictions: AtomicU64,
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

/// What stands behind the code.
#[derive(Serialize, Deserialize)]
struct Facts {
    info: ModuleInfo,
    /// Not told to users, and so not in the form of `info`.
    core_instances: u32,
}

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
        let (directory, authenticator) = (directory.to_owned(), Authenticator::new(key));
        let cache = Self { directory, authenticator, budget, evictions: AtomicU64::new(0) };
        cache.evict(None).map_err(failed)?;
        Ok(cache)
    }

    /// A path for a compiler to write to; the file goes away unless it is kept.
    pub(crate) fn scratch(&self) -> io::Result<TempPath> {
        let file = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempfile_in(&self.directory)?;
        Ok(file.into_temp_path())
    }

    /// What is made of the artifact and of what its module says of itself, if there is one. Reads all of it, and puts aside
    /// what is refused.
    ///
    /// # Errors
    /// When it is not what this installation wrote. What was made of it is dropped then; none of its code was executed.
    pub(crate) fn get<T>(
        &self,
        key: &ModuleKey,
        compatibility: u64,
        make: impl FnOnce(File, ModuleInfo) -> T,
    ) -> Result<Option<T>, Refused> {
        let name = name(key, compatibility);
        match self.open_authentic(&name, make) {
            Ok(made) => Ok(Some(made)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // What cannot be read now is not changed by that.
            Err(error) if !is_wrong(&error) => {
                tracing::warn!(%error, artifact = name, "compiled artifact not read; compiling again");
                Ok(None)
            }
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
        let footer = self.authenticator.footer(&name, &file, facts.len() as u64)?;
        file.write_all(&footer)?;
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

    fn open_authentic<T>(&self, name: &str, make: impl FnOnce(File, ModuleInfo) -> T) -> io::Result<T> {
        let file = File::open(self.directory.join(name))?;
        let made = self.authenticator.open(name, &file, |facts| {
            let Facts { info, core_instances } = serde_json::from_slice(facts)?;
            Ok(make(file.try_clone()?, ModuleInfo { core_instances, ..info }))
        })?;
        let used = file.metadata()?.modified();
        if used.is_ok_and(|at| at.elapsed().is_ok_and(|since| since > NOTED_EVERY)) {
            // Who may not note it has an artifact that looks old, and no other harm.
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(made)
    }
}

/// Whether an artifact was read and is none.
fn is_wrong(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
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

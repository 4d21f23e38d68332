//! Compiled code on disk: artifacts by module digest, metering and engine, authenticated by a keyed
//! digest (HMAC-SHA-256, RFC 2104), so that bytes which this installation did not write are never
//! mapped as code.
//!
//! Invariant: an artifact is visible under its name only when it is whole and durable; a changed
//! byte is a miss.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use mentat_manifest::{Metering, ModuleDigest};
use sha2::Sha256;
use tempfile::{NamedTempFile, TempPath};

use crate::error::Error;

/// Compiled code of past compiles.
#[derive(Debug)]
pub(crate) struct ArtifactCache {
    directory: PathBuf,
    key: [u8; KEY_BYTES],
}

const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 32;
const SCRATCH_PREFIX: &str = ".compiling-";
/// No compile takes as long as this, so an older scratch file belongs to a process that was killed.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

impl ArtifactCache {
    /// Opens the cache in `directory`, making it and its key when new.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::internal(format!("opening the artifact cache `{}`", directory.display()), error)
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let key = read_or_make_key(&directory.join("key")).map_err(failed)?;
        sweep(directory).map_err(failed)?;
        Ok(Self { directory: directory.to_owned(), key })
    }

    /// A path for a compiler to write to; the file goes away unless it is kept.
    pub(crate) fn scratch(&self) -> io::Result<TempPath> {
        let file = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempfile_in(&self.directory)?;
        Ok(file.into_temp_path())
    }

    /// The artifact, if there is one that this installation wrote.
    pub(crate) fn get(
        &self,
        engine: &wasmtime::Engine,
        digest: &ModuleDigest,
        metering: Metering,
    ) -> Option<File> {
        let path = self.path(engine, digest, metering);
        match self.open_authentic(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled artifact refused; compiling again");
                None
            }
        }
    }

    /// Keeps what a compiler wrote to a scratch path, durably, and opens it.
    pub(crate) fn keep(
        &self,
        engine: &wasmtime::Engine,
        digest: &ModuleDigest,
        metering: Metering,
        scratch: TempPath,
    ) -> io::Result<File> {
        let path = self.path(engine, digest, metering);
        let mut file = File::open(&scratch)?;
        let tag = self.tag(&path, &mut file)?.finalize().into_bytes();
        file.sync_all()?;
        let mut tag_file = NamedTempFile::new_in(&self.directory)?;
        tag_file.write_all(&tag)?;
        tag_file.as_file().sync_all()?;
        // The tag first: an artifact without its tag is a miss, never the other way round.
        tag_file.persist(tag_path(&path)).map_err(|error| error.error)?;
        scratch.persist(&path).map_err(|error| error.error)?;
        File::open(&self.directory)?.sync_all()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// Removes the artifacts of these modules; who has one open keeps it.
    pub(crate) fn remove(&self, these: impl Fn(ModuleDigest) -> bool) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let digest =
                name.to_str().and_then(|name| format!("sha256:{}", name.split_once('-')?.0).parse().ok());
            if digest.is_some_and(&these) {
                // What stays takes room and does no harm; the next start removes it.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn open_authentic(&self, path: &Path) -> io::Result<File> {
        let mut file = File::open(path)?;
        let mut expected = [0; TAG_BYTES];
        File::open(tag_path(path))?.read_exact(&mut expected)?;
        self.tag(path, &mut file)?
            .verify_slice(&expected)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its keyed digest does not match"))?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// Over the name and the content, so that one module's code cannot be put in another's place.
    fn tag(&self, path: &Path, file: &mut File) -> io::Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key)
            .map_err(|_| io::Error::other("the key has no usable length"))?;
        mac.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        mac.update(&[0]);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut buffer)?;
            let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else {
                return Ok(mac);
            };
            mac.update(chunk);
        }
    }

    fn path(&self, engine: &wasmtime::Engine, digest: &ModuleDigest, metering: Metering) -> PathBuf {
        // Wasmtime refuses code of another configuration; another name keeps both.
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let metering = match metering {
            Metering::Fuel => "fuel",
            Metering::Epoch => "epoch",
        };
        self.directory.join(format!("{}-{metering}-{:016x}.cwasm", digest.hex(), hasher.finish()))
    }
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

fn tag_path(artifact: &Path) -> PathBuf {
    artifact.with_extension("hmac")
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
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .tempfile_in(directory)?;
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

//! The files that a guest has open by way of WASI: which directory of the execution each lies in, and what may be done
//! with it there. Wasmtime keeps guests inside of a directory; what is checked here is what it does not know: that a
//! directory may be for writing alone, that policies may speak of parts of it, that it has a quota, and how many files
//! one execution may hold.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::Dir;
use mentat_manifest::{Capability, FileAccess};

use super::gate::Gate;
use super::paths::{self, LastLink};
use super::volumes::{ENTRY_BYTES, Quota};
use crate::security::policy::common_access;

/// Bytes of a path at most, as on Linux.
pub(crate) const MAX_PATH_BYTES: usize = 4096;

/// What a guest has open.
#[derive(Debug)]
pub(crate) struct Descriptors {
    gate: Arc<Gate>,
    volumes: Vec<Volume>,
    open: HashMap<u32, Open>,
    limits: FileLimits,
}

/// How much of the host's a guest may hold by way of WASI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileLimits {
    /// Files and directories at one time.
    pub(crate) open: usize,
    /// Entries of a directory that is listed.
    pub(crate) entries: usize,
}

/// A directory that the guest found open when it began.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    /// Its guest path.
    pub(crate) guest: String,
    /// The directory.
    pub(crate) root: Arc<Dir>,
    /// What may be done there.
    pub(crate) access: FileAccess,
    /// What may still be written there.
    pub(crate) quota: Quota,
    /// Whether whatever lies in it is decided on as it is itself.
    pub(crate) alike: bool,
}

/// A file or a directory that is open.
#[derive(Clone, Debug)]
struct Open {
    volume: usize,
    /// Its path in the volume, as it was when it was opened.
    below: PathBuf,
}

/// Why WASI does not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It may not be done: `EACCES`.
    Denied,
    /// Too many files are open: `EMFILE`.
    TooMany,
    /// The directory's quota is used up: `ENOSPC`.
    Full,
    /// The directory has too many entries: `EOVERFLOW`.
    TooLarge,
    /// The path is too long: `ENAMETOOLONG`.
    TooLong,
}

/// A path that may be used: what is opened there is known by it.
#[derive(Debug)]
pub(crate) struct Checked(Option<Open>);

impl Descriptors {
    /// Nothing is open yet of `volumes`.
    pub(crate) fn new(gate: Arc<Gate>, volumes: Vec<Volume>, limits: FileLimits) -> Self {
        Self { gate, volumes, open: HashMap::new(), limits }
    }

    /// No files at all.
    pub(crate) fn nothing(gate: Arc<Gate>) -> Self {
        Self { gate, volumes: Vec::new(), open: HashMap::new(), limits: FileLimits { open: 0, entries: 0 } }
    }

    /// Whether a path may be used so, from the directory `descriptor` on.
    pub(crate) async fn check(
        &self,
        descriptor: u32,
        path: &str,
        last: LastLink,
        access: FileAccess,
    ) -> Result<Checked, Refusal> {
        // What is no descriptor of ours is none of WASI's either, which says so.
        let Some((open, volume)) = self.find(descriptor) else { return Ok(Checked(None)) };
        if common_access(access, volume.access) != Some(access) {
            return Err(Refusal::Denied);
        }
        // Without `.`, so that a guest cannot make it longer by going nowhere.
        let below: PathBuf =
            open.below.join(path).components().filter(|part| *part != Component::CurDir).collect();
        if path.len().max(below.as_os_str().len()) > MAX_PATH_BYTES {
            return Err(Refusal::TooLong);
        }
        if volume.alike {
            return Ok(Checked(Some(Open { below, ..open.clone() })));
        }
        let root = Arc::clone(&volume.root);
        let resolved = tokio::task::spawn_blocking(move || paths::resolve(&root, &below, last)).await;
        let Ok(Ok(below)) = resolved else { return Err(Refusal::Denied) };
        let guest = paths::join_guest(&volume.guest, &below);
        let capability = format!("filesystem:{}:{guest}", access.as_str()).parse::<Capability>();
        let capability = capability.map_err(|_| Refusal::Denied)?;
        self.gate.decide(&capability).map_err(|_| Refusal::Denied)?;
        Ok(Checked(Some(Open { below, ..open.clone() })))
    }

    /// As [`Self::check`], for what makes an entry, which counts against the quota.
    pub(crate) async fn check_new(&self, descriptor: u32, path: &str) -> Result<(), Refusal> {
        self.check(descriptor, path, LastLink::Keep, FileAccess::Write).await?;
        self.take(descriptor, ENTRY_BYTES)
    }

    /// As [`Self::check`], for what is taken away from one name and given another. Where policies speak of parts of the
    /// directory, a name is a power: the thing must be open to all that its new name permits, and no directory takes its
    /// content along.
    pub(crate) async fn check_moved(&self, descriptor: u32, path: &str) -> Result<(), Refusal> {
        let Some((_, volume)) = self.find(descriptor) else { return Ok(()) };
        if volume.alike {
            return self.check(descriptor, path, LastLink::Keep, FileAccess::Write).await.map(drop);
        }
        let Checked(found) = self.check(descriptor, path, LastLink::Keep, FileAccess::ReadWrite).await?;
        let (root, below) = (Arc::clone(&volume.root), found.map(|open| open.below).unwrap_or_default());
        let is_directory = tokio::task::spawn_blocking(move || {
            root.symlink_metadata(&below).is_ok_and(|found| found.is_dir())
        });
        if is_directory.await.unwrap_or(true) { Err(Refusal::Denied) } else { Ok(()) }
    }

    /// Whether things may go from one directory to the other. Between two volumes they do only where both may be read and
    /// written: what can only be written in one must not become readable in another.
    pub(crate) fn check_between(&self, from: u32, to: u32) -> Result<(), Refusal> {
        let (Some((from, source)), Some((to, target))) = (self.find(from), self.find(to)) else {
            return Ok(());
        };
        let is_free = |volume: &Volume| volume.access == FileAccess::ReadWrite;
        if from.volume == to.volume || (is_free(source) && is_free(target)) {
            Ok(())
        } else {
            Err(Refusal::Denied)
        }
    }

    /// Whether the content of an open directory may be listed, and is no more than the host will collect.
    pub(crate) async fn check_list(&self, descriptor: u32) -> Result<(), Refusal> {
        let Some((open, volume)) = self.find(descriptor) else { return Ok(()) };
        if volume.access == FileAccess::Write {
            return Err(Refusal::Denied);
        }
        let (root, below, limit) = (Arc::clone(&volume.root), open.name().to_owned(), self.limits.entries);
        let count = move || root.read_dir(&below).map_or(0, |entries| entries.take(limit + 1).count());
        match tokio::task::spawn_blocking(count).await {
            Ok(count) if count <= limit => Ok(()),
            _ => Err(Refusal::TooLarge),
        }
    }

    /// Whether a descriptor is a file or directory of the execution.
    pub(crate) fn is_open(&self, descriptor: u32) -> bool {
        self.open.contains_key(&descriptor)
    }

    /// Whether one more file may be opened.
    pub(crate) fn check_room(&self) -> Result<(), Refusal> {
        if self.open.len() < self.limits.open { Ok(()) } else { Err(Refusal::TooMany) }
    }

    /// Takes bytes of the quota that an open file, or a directory, belongs to.
    pub(crate) fn take(&self, descriptor: u32, bytes: u64) -> Result<(), Refusal> {
        match self.find(descriptor) {
            Some((_, volume)) => volume.quota.take(bytes).map_err(|_| Refusal::Full),
            None => Ok(()),
        }
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&self, descriptor: u32, bytes: u64) {
        if let Some((_, volume)) = self.find(descriptor) {
            volume.quota.give_back(bytes);
        }
    }

    /// The quota that an open file belongs to.
    pub(crate) fn quota(&self, descriptor: u32) -> Option<Quota> {
        self.find(descriptor).map(|(_, volume)| volume.quota.clone())
    }

    /// Notes what was opened at a path that was checked.
    pub(crate) fn opened(&mut self, descriptor: u32, checked: Checked) {
        if let Checked(Some(open)) = checked {
            self.open.insert(descriptor, open);
        }
    }

    /// Notes that the root of a volume was given out once more.
    pub(crate) fn opened_root(&mut self, descriptor: u32, volume: usize) {
        if volume < self.volumes.len() {
            self.open.insert(descriptor, Open::root(volume));
        }
    }

    /// Notes that a descriptor is gone.
    pub(crate) fn closed(&mut self, descriptor: u32) {
        self.open.remove(&descriptor);
    }

    /// Notes that a descriptor has taken another's place.
    pub(crate) fn renumbered(&mut self, from: u32, to: u32) {
        match self.open.remove(&from) {
            Some(open) => drop(self.open.insert(to, open)),
            None => drop(self.open.remove(&to)),
        }
    }

    fn find(&self, descriptor: u32) -> Option<(&Open, &Volume)> {
        let open = self.open.get(&descriptor)?;
        Some((open, self.volumes.get(open.volume)?))
    }
}

impl Open {
    fn root(volume: usize) -> Self {
        Self { volume, below: PathBuf::new() }
    }

    fn name(&self) -> &Path {
        if self.below.as_os_str().is_empty() { Path::new(".") } else { &self.below }
    }
}

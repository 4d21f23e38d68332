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
use super::volumes::{ENTRY_BYTES, Quota, name_of};
use crate::security::policy::common_access;

/// Bytes of a path at most, as on Linux.
pub(crate) const MAX_PATH_BYTES: usize = 4096;

/// What a guest has open.
#[derive(Debug)]
pub(crate) struct Descriptors {
    gate: Arc<Gate>,
    volumes: Vec<Volume>,
    open: HashMap<u32, Open>,
    /// Held once more by each place that is taken.
    places: Arc<()>,
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
    /// Whether symbolic links may be made and moved in it: nowhere in a mount of which parts are decided on by themselves,
    /// since a link could be put in the place of a name between its check and its use.
    pub(crate) links: bool,
}

/// A file or a directory that is open.
#[derive(Debug)]
struct Open {
    volume: usize,
    /// Its path in the volume, as it was when it was opened.
    below: PathBuf,
    /// Where the last write ended.
    end: Option<u64>,
    place: Place,
}

/// One of the files that a guest may have open. Streams of a file keep it after the descriptor is gone, as they keep the
/// file open.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    _held: Arc<Held>,
}

/// Counts as one among the places of an execution, as long as it lives.
#[derive(Debug)]
struct Held {
    _of: Arc<()>,
}

/// What a write to a file takes of its quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writing {
    offset: u64,
    length: u64,
    taken: u64,
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

/// A path that may be used: what is opened there is known by its volume, and its path in that.
#[derive(Debug)]
pub(crate) struct Checked(Option<(usize, PathBuf)>);

impl Descriptors {
    /// Nothing is open yet of `volumes`.
    pub(crate) fn new(gate: Arc<Gate>, volumes: Vec<Volume>, limits: FileLimits) -> Self {
        Self { gate, volumes, open: HashMap::new(), places: Arc::default(), limits }
    }

    /// No files at all.
    pub(crate) fn nothing(gate: Arc<Gate>) -> Self {
        Self::new(gate, Vec::new(), FileLimits { open: 0, entries: 0 })
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
        // Without `.`, so that a guest cannot make it longer by going nowhere.
        let below: PathBuf =
            open.below.join(path).components().filter(|part| *part != Component::CurDir).collect();
        if path.len().max(below.as_os_str().len()) > MAX_PATH_BYTES {
            return Err(Refusal::TooLong);
        }
        if leads_out(&below) {
            // Wasmtime says that it leads nowhere; this only asks.
            let _ = self.ask(&meant(&volume.guest, &below), access);
        }
        let checked = |below| Ok(Checked(Some((open.volume, below))));
        if common_access(access, volume.access) != Some(access) {
            self.ask(&meant(&volume.guest, &below), access)?;
            return Err(Refusal::Denied);
        }
        if volume.alike {
            return checked(below);
        }
        let (root, last) = (Arc::clone(&volume.root), last.of(path));
        let resolved = tokio::task::spawn_blocking(move || paths::resolve(&root, &below, last)).await;
        let Ok(Ok(below)) = resolved else { return Err(Refusal::Denied) };
        self.ask(&paths::join_guest(&volume.guest, &below), access)?;
        checked(below)
    }

    /// As [`Self::check`], for what is opened. A pipe is not: a thread of the host would wait for its other end, and go on
    /// waiting when the execution has ended.
    pub(crate) async fn check_opened(
        &self,
        descriptor: u32,
        path: &str,
        last: LastLink,
        access: FileAccess,
    ) -> Result<Checked, Refusal> {
        let checked = self.check(descriptor, path, last, access).await?;
        let (Checked(Some((_, below))), Some((_, volume))) = (&checked, self.find(descriptor)) else {
            return Ok(checked);
        };
        let (root, below) = (Arc::clone(&volume.root), name_of(below).to_owned());
        let opens_at_once = tokio::task::spawn_blocking(move || match root.metadata(&below) {
            Ok(found) => found.is_file() || found.is_dir(),
            // That it is not there, or not inside, is for Wasmtime to say.
            Err(_) => true,
        });
        if opens_at_once.await.unwrap_or(false) { Ok(checked) } else { Err(Refusal::Denied) }
    }

    /// Asks for a place by itself, whatever its volume is for: so that what is denied is on record, and ends the execution
    /// where the operator wants that.
    fn ask(&self, guest: &str, access: FileAccess) -> Result<(), Refusal> {
        let capability = format!("filesystem:{}:{guest}", access.as_str()).parse::<Capability>();
        let capability = capability.map_err(|_| Refusal::Denied)?;
        self.gate.decide(&capability).map(drop).map_err(|_| Refusal::Denied)
    }

    /// As [`Self::check`], for a file or directory that is open: what may be looked at may not be changed, and the directory
    /// that a single file lies in may not be listed.
    pub(crate) async fn check_open(&self, descriptor: u32, access: FileAccess) -> Result<(), Refusal> {
        self.check(descriptor, ".", LastLink::Follow, access).await.map(drop)
    }

    /// As [`Self::check_new`], for a symbolic link.
    pub(crate) async fn check_link(&self, descriptor: u32, path: &str) -> Result<(), Refusal> {
        if self.find(descriptor).is_some_and(|(_, volume)| !volume.links) {
            return Err(Refusal::Denied);
        }
        self.check_new(descriptor, path).await
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
        let access = if volume.alike { FileAccess::Write } else { FileAccess::ReadWrite };
        let Checked(found) = self.check(descriptor, path, LastLink::Keep, access).await?;
        let (alike, links) = (volume.alike, volume.links);
        if alike && links {
            return Ok(());
        }
        let (root, below) = (Arc::clone(&volume.root), found.map(|(_, below)| below).unwrap_or_default());
        let is_moved = tokio::task::spawn_blocking(move || match root.symlink_metadata(&below) {
            Ok(found) => (alike || !found.is_dir()) && (links || !found.is_symlink()),
            Err(_) => true,
        });
        if is_moved.await.unwrap_or(false) { Ok(()) } else { Err(Refusal::Denied) }
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
        self.check_open(descriptor, FileAccess::Read).await?;
        let (root, below, limit) =
            (Arc::clone(&volume.root), name_of(&open.below).to_owned(), self.limits.entries);
        let count = move || root.read_dir(&below).map(|entries| entries.take(limit + 1).count());
        match tokio::task::spawn_blocking(count).await {
            Ok(Ok(count)) if count <= limit => Ok(()),
            Ok(Ok(_)) => Err(Refusal::TooLarge),
            // It is no longer where it was opened: nobody knows how much is in it.
            _ => Err(Refusal::Denied),
        }
    }

    /// Whether a descriptor is a file or directory of the execution.
    pub(crate) fn is_open(&self, descriptor: u32) -> bool {
        self.open.contains_key(&descriptor)
    }

    /// Whether one more file may be opened.
    pub(crate) fn check_room(&self) -> Result<(), Refusal> {
        // This one's own count apart.
        let taken = Arc::strong_count(&self.places).saturating_sub(1);
        if taken < self.limits.open { Ok(()) } else { Err(Refusal::TooMany) }
    }

    /// The place of an open file, for a stream of it.
    pub(crate) fn place(&self, descriptor: u32) -> Option<Place> {
        self.open.get(&descriptor).map(|open| open.place.clone())
    }

    /// Whether a write begins where the last one by this descriptor ended, so that it leaves no hole.
    pub(crate) fn goes_on(&self, descriptor: u32, offset: u64) -> bool {
        self.open.get(&descriptor).is_some_and(|open| open.end == Some(offset))
    }

    /// Takes what a write takes to a file of this size. A hole before it counts like bytes: a file of holes takes a block of
    /// the disk for each byte that is written between them.
    pub(crate) fn take_write(
        &self,
        descriptor: u32,
        size: u64,
        offset: u64,
        length: u64,
    ) -> Result<Writing, Refusal> {
        let taken = if length == 0 { 0 } else { writing_takes(size, offset, length) };
        self.take(descriptor, taken)?;
        Ok(Writing { offset, length, taken })
    }

    /// Notes how much of a write was written, and gives back what it did not take.
    pub(crate) fn wrote(&mut self, descriptor: u32, writing: Writing, written: Option<u64>) {
        let unused = match written {
            Some(written) => writing.length.saturating_sub(written),
            None => writing.taken,
        };
        self.give_back(descriptor, unused.min(writing.taken));
        if let (Some(open), Some(written)) = (self.open.get_mut(&descriptor), written) {
            open.end = writing.offset.checked_add(written);
        }
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
        if let Checked(Some((volume, below))) = checked {
            self.open.insert(descriptor, self.new_open(volume, below));
        }
    }

    /// Notes that the root of a volume was given out once more.
    pub(crate) fn opened_root(&mut self, descriptor: u32, volume: usize) {
        if volume < self.volumes.len() {
            self.open.insert(descriptor, self.new_open(volume, PathBuf::new()));
        }
    }

    fn new_open(&self, volume: usize, below: PathBuf) -> Open {
        Open {
            volume,
            below,
            end: None,
            place: Place { _held: Arc::new(Held { _of: Arc::clone(&self.places) }) },
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

/// Whether a path climbs out of where it begins, links apart.
fn leads_out(below: &Path) -> bool {
    let mut depth = 0_usize;
    for part in below.components() {
        match part {
            Component::Normal(_) => depth = depth.saturating_add(1),
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

/// The guest path that a guest means, links apart.
fn meant(guest: &str, below: &Path) -> String {
    let mut path = PathBuf::from(guest);
    for part in below.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            Component::RootDir | Component::Prefix(_) => path = PathBuf::from("/"),
            Component::CurDir => {}
        }
    }
    path.display().to_string()
}

/// What a write takes to a file of this size.
pub(crate) fn writing_takes(size: u64, offset: u64, length: u64) -> u64 {
    length.max(offset.saturating_add(length).saturating_sub(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_of_a_directory_is_known_by_what_is_meant() {
        for (path, out, place) in [
            ("a/b", false, "/data/a/b"),
            ("a/../b", false, "/data/b"),
            ("..", true, "/"),
            ("../../etc/passwd", true, "/etc/passwd"),
            ("a/../../other", true, "/other"),
            ("/etc/passwd", true, "/etc/passwd"),
        ] {
            let below = Path::new(path);
            assert_eq!((leads_out(below), meant("/data", below).as_str()), (out, place), "{path}");
        }
    }

    #[test]
    fn a_hole_before_a_write_counts_like_bytes() {
        for (size, offset, length, taken) in [
            (0, 0, 10, 10),
            (10, 10, 5, 5),
            (10, 2, 5, 5),
            (10, 1000, 1, 991),
            (0, u64::MAX, 1, u64::MAX),
            (1 << 40, 0, 7, 7),
        ] {
            assert_eq!(writing_takes(size, offset, length), taken, "{size} {offset} {length}");
        }
    }
}

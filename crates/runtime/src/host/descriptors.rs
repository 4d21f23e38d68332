//! The files that a guest has open by way of WASI: which directory of the execution each lies in, and what may be done
//! with it there. Wasmtime keeps guests inside of a directory, and out of writing where it is open for reading; what is
//! checked here is what it does not know: that a directory may be for writing alone, that policies may speak of parts of
//! it, that it has a quota, and how many files one execution may hold.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::{Dir, Metadata, MetadataExt};
use mentat_manifest::{Capability, FileAccess};

use super::gate::Gate;
use super::paths::{self, Astray, LastLink};
use super::quota::{FileId, Held, Quota, Turn};
use super::volumes::name_of;
use crate::security::policy::common_access;

/// Why the sandbox keeps back what was granted.
pub(super) const LEADS_OUT: &str = "it leads out of what is mounted";
const NO_FILE: &str = "it is neither a file nor a directory, and opening it could wait for ever";
const NO_LINKS: &str =
    "symbolic links are made and moved nowhere in a mount of which policies tell parts apart";
const NOT_MOVED: &str = "links, and directories with what is in them, are moved nowhere in a mount of which policies tell \
                         parts apart";
pub(super) const NOT_FOR_THIS: &str = "what is mounted there is not for this";
const NO_CAPABILITY: &str = "something in it has a name for which no capability can be written";
const NOT_THERE: &str = "the directory is no longer where it was opened";

/// Bytes of a path at most, as on Linux.
pub(crate) const MAX_PATH_BYTES: usize = 4096;

/// What a guest has open.
#[derive(Debug)]
pub(crate) struct Descriptors {
    gate: Arc<Gate>,
    volumes: Vec<Volume>,
    open: HashMap<u32, Open>,
    /// The listings of directories that a component goes through; the host holds the entries of each.
    listings: HashMap<u32, Kept>,
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
    /// What may be added there; `None` where nobody can write.
    pub(crate) quota: Option<Quota>,
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
    /// Whether writes go to its end, where WASI knows a descriptor of that kind.
    appends: bool,
    kept: Kept,
}

/// What a file takes as long as it is open: a place among those that an execution may have open, and its room on the disk
/// when its last name is gone. Streams of a file share it, as they keep the file open after its descriptor is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    _what: Arc<(Arc<()>, Option<Held>)>,
}

/// Why WASI does not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It may not be done: `EACCES`.
    Denied,
    /// There are too many links on the way: `ELOOP`.
    Loop,
    /// Too many files are open: `EMFILE`.
    TooMany,
    /// The directory has too many entries: `EOVERFLOW`.
    TooLarge,
    /// The path is too long: `ENAMETOOLONG`.
    TooLong,
    /// The other directory has a quota of its own, as if it were another disk: `EXDEV`.
    Across,
}

/// A path that may be used: what is opened there is known by it.
#[derive(Debug)]
pub(crate) struct Checked(Option<(usize, PathBuf)>);

impl Descriptors {
    /// Nothing is open yet of `volumes`.
    pub(crate) fn new(gate: Arc<Gate>, volumes: Vec<Volume>, limits: FileLimits) -> Self {
        Self { gate, volumes, open: HashMap::new(), listings: HashMap::new(), places: Arc::default(), limits }
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
        if common_access(access, volume.access) != Some(access) {
            self.refuse(volume, &meant(&volume.guest, &below), access);
            // What is open for reading alone is that for Wasmtime as well, which has the right error for each call.
            if !volume.alike || volume.access != FileAccess::Read {
                return Err(Refusal::Denied);
            }
        }
        if volume.alike {
            return Ok(Checked(Some((open.volume, below))));
        }
        let (root, last) = (Arc::clone(&volume.root), last.of(path));
        let asked = below.clone();
        let resolved = tokio::task::spawn_blocking(move || paths::resolve(&root, &below, last)).await;
        let below = match resolved {
            Ok(Ok(below)) => below,
            Ok(Err(error)) => {
                return Err(match Astray::of(&error) {
                    Astray::Outside => self.keep_back(volume, &asked, access, LEADS_OUT),
                    // Nothing is there that anybody could be denied.
                    Astray::Circles => Refusal::Loop,
                    Astray::TooLong => Refusal::TooLong,
                    Astray::Broken => Refusal::Denied,
                });
            }
            Err(_) => return Err(Refusal::Denied),
        };
        self.ask(&paths::join_guest(&volume.guest, &below), access)?;
        Ok(Checked(Some((open.volume, below))))
    }

    /// Refuses to open what is neither a file nor a directory, such as a pipe: a thread of the host would wait for its other
    /// end, and go on waiting when the execution has ended. What is there the descriptor tells, by whatever name it is
    /// reached by now.
    pub(crate) fn refuse_special(&self, descriptor: u32, path: &str, access: FileAccess) -> Refusal {
        match self.find(descriptor) {
            Some((open, volume)) => self.keep_back(volume, &open.below.join(path), access, NO_FILE),
            None => Refusal::Denied,
        }
    }

    /// Puts on record that a path led out of its directory, by links that Wasmtime did not follow: where whatever lies in a
    /// directory is decided on alike, nobody has looked at them before. `id` is what the descriptor leads to; where it is no
    /// longer at the place where it was opened, that is as good as a link out.
    pub(crate) async fn note_escape(
        &self,
        descriptor: u32,
        id: FileId,
        path: &str,
        last: LastLink,
        access: FileAccess,
    ) {
        let Some((open, volume)) = self.find(descriptor) else { return };
        let (top, below) = (open.below.clone(), open.below.join(path));
        // What climbs out by itself was asked for before.
        if !volume.alike || leads_out(&below) {
            return;
        }
        let (root, asked, last) = (Arc::clone(&volume.root), below.clone(), last.of(path));
        let leads_out = tokio::task::spawn_blocking(move || {
            let is_there = root.metadata(name_of(&top)).is_ok_and(|found| is_it(&found, id));
            let resolved = paths::resolve(&root, &below, last);
            !is_there || resolved.is_err_and(|error| Astray::of(&error) == Astray::Outside)
        });
        if leads_out.await.unwrap_or(true) {
            self.keep_back(volume, &asked, access, LEADS_OUT);
        }
    }

    /// As [`Self::check`], for a file or directory that is open: what may be looked at may not be changed, and the directory
    /// that a single file lies in may not be listed.
    pub(crate) async fn check_open(&self, descriptor: u32, access: FileAccess) -> Result<(), Refusal> {
        self.check(descriptor, ".", LastLink::Follow, access).await.map(drop)
    }

    /// As [`Self::check`], for a symbolic link that is made.
    pub(crate) async fn check_link(&self, descriptor: u32, path: &str) -> Result<(), Refusal> {
        if let Some((open, volume)) = self.find(descriptor)
            && !volume.links
        {
            return Err(self.keep_back(volume, &open.below.join(path), FileAccess::Write, NO_LINKS));
        }
        self.check(descriptor, path, LastLink::Keep, FileAccess::Write).await.map(drop)
    }

    /// Asks for a place by itself, whatever its volume is for: so that what is denied is on record, and ends the execution
    /// where the operator wants that. What is denied is told in the execution's log.
    ///
    /// For what no capability can be written the next directory above it is asked for, which must speak for all in it.
    fn ask(&self, guest: &str, access: FileAccess) -> Result<(), Refusal> {
        let above = Path::new(guest).ancestors().find_map(|path| filesystem(path.to_str()?, access));
        let Some(asked) = above else { return Err(Refusal::Denied) };
        let is_itself = filesystem(guest, access).is_some();
        let decided = self.gate.decide(&asked).and_then(|_| {
            let speaks = is_itself || self.gate.grant().decides_alike_below(&asked);
            if speaks { Ok(()) } else { Err(self.gate.refuse(&asked, NO_CAPABILITY)) }
        });
        decided.map_err(|denial| {
            self.gate.tell(&asked.to_string(), || denial.to_string());
            Refusal::Denied
        })
    }

    /// Refuses what the sandbox itself keeps back at a path of a volume. One that no capability can be written for is on
    /// record as its volume.
    fn keep_back(&self, volume: &Volume, below: &Path, access: FileAccess, why: &'static str) -> Refusal {
        let asked =
            filesystem(&meant(&volume.guest, below), access).or_else(|| filesystem(&volume.guest, access));
        if let Some(asked) = asked {
            let denial = self.gate.refuse(&asked, why);
            self.gate.tell(&asked.to_string(), || denial.to_string());
        }
        Refusal::Denied
    }

    /// Refuses a place in a directory that is not for this, and tells the execution's log what would give the whole
    /// directory: once, whatever is tried there.
    fn refuse(&self, volume: &Volume, guest: &str, access: FileAccess) {
        if let Some(capability) = filesystem(guest, access).or_else(|| filesystem(&volume.guest, access)) {
            if self.gate.grant().explain(&capability).is_ok() {
                self.gate.refuse(&capability, NOT_FOR_THIS);
            } else {
                // Refused for a reason of its own.
                let _ = self.gate.decide(&capability);
            }
        }
        let Some(asked) = filesystem(&volume.guest, access) else { return };
        self.gate.tell(&asked.to_string(), || match self.gate.grant().explain(&asked) {
            Err(denial) => denial.to_string(),
            Ok(()) => format!(
                "the mount `{guest}` is {}; `{asked}` takes another `access` in `[[sandbox.mounts]]`, for a user of \
                 `mentat run` `--mount HOST:{guest}:rw`",
                volume.access.as_str(),
                guest = volume.guest,
            ),
        });
    }

    /// As [`Self::check`], for what is taken away from one name and given another. Where policies speak of parts of either
    /// directory, a name is a power: the thing must be open to all that its new name permits, and no directory takes its
    /// content along.
    pub(crate) async fn check_moved(
        &self,
        (from, old): (u32, &str),
        (to, new): (u32, &str),
    ) -> Result<(), Refusal> {
        let (Some((_, source)), Some((_, target))) = (self.find(from), self.find(to)) else { return Ok(()) };
        let (alike, links) = (source.alike && target.alike, source.links && target.links);
        let access = if alike { FileAccess::Write } else { FileAccess::ReadWrite };
        for (descriptor, path) in [(from, old), (to, new)] {
            let Checked(found) = self.check(descriptor, path, LastLink::Keep, access).await?;
            let (Some((_, below)), Some((_, volume))) = (found, self.find(descriptor)) else { continue };
            if alike && links {
                continue;
            }
            let (root, asked) = (Arc::clone(&volume.root), below.clone());
            let is_moved =
                tokio::task::spawn_blocking(move || match root.symlink_metadata(name_of(&below)) {
                    Ok(found) => (alike || !found.is_dir()) && (links || !found.is_symlink()),
                    Err(_) => true,
                });
            if !is_moved.await.unwrap_or(false) {
                return Err(self.keep_back(volume, &asked, access, NOT_MOVED));
            }
        }
        Ok(())
    }

    /// Whether things may go from one directory to the other. Between two volumes they do only where both may be read and
    /// written: what can only be written in one must not become readable in another. And only within one quota, so that
    /// nothing becomes larger by what another had room for.
    pub(crate) fn check_between(&self, from: u32, to: u32) -> Result<(), Refusal> {
        let (Some((from, source)), Some((to, target))) = (self.find(from), self.find(to)) else {
            return Ok(());
        };
        let is_free = |volume: &Volume| volume.access == FileAccess::ReadWrite;
        match (&source.quota, &target.quota) {
            _ if from.volume == to.volume => Ok(()),
            _ if !is_free(source) || !is_free(target) => {
                let closed = if is_free(source) { target } else { source };
                self.refuse(closed, &closed.guest, FileAccess::ReadWrite);
                Err(Refusal::Denied)
            }
            (Some(one), Some(other)) if one.is(other) => Ok(()),
            _ => Err(Refusal::Across),
        }
    }

    /// Whether the content of an open directory may be listed, and is no more than the host will collect. It must be the
    /// directory `id`, which the descriptor leads to, still where it was opened.
    pub(crate) async fn check_list(&self, descriptor: u32, id: FileId) -> Result<(), Refusal> {
        let Some((open, volume)) = self.find(descriptor) else { return Ok(()) };
        self.check_open(descriptor, FileAccess::Read).await?;
        let (root, below, limit) =
            (Arc::clone(&volume.root), name_of(&open.below).to_owned(), self.limits.entries);
        let asked = open.below.clone();
        let count = move || -> io::Result<Option<usize>> {
            let directory = root.open_dir(&below)?;
            let is_it = is_it(&directory.dir_metadata()?, id);
            is_it.then(|| Ok(directory.entries()?.take(limit + 1).count())).transpose()
        };
        match tokio::task::spawn_blocking(count).await {
            Ok(Ok(Some(count))) if count <= limit => Ok(()),
            Ok(Ok(Some(_))) => Err(Refusal::TooLarge),
            // It is no longer where it was opened: nobody knows how much is in it.
            Ok(Ok(None)) => Err(self.keep_back(volume, &asked, FileAccess::Read, NOT_THERE)),
            _ => Err(Refusal::Denied),
        }
    }

    /// Whether one more file may be opened.
    pub(crate) fn check_room(&self) -> Result<(), Refusal> {
        // This one's own count apart.
        let taken = Arc::strong_count(&self.places).saturating_sub(1);
        if taken < self.limits.open { Ok(()) } else { Err(Refusal::TooMany) }
    }

    /// Waits for the right to change the directory that a descriptor lies in.
    pub(crate) async fn turn(&self, descriptor: u32) -> Turn {
        match self.quota(descriptor) {
            Some(quota) => quota.turn().await,
            None => Turn::uncounted(),
        }
    }

    /// The quota that an open file belongs to.
    pub(crate) fn quota(&self, descriptor: u32) -> Option<Quota> {
        self.find(descriptor).and_then(|(_, volume)| volume.quota.clone())
    }

    /// What keeps an open file counted, for a stream of it.
    pub(crate) fn kept(&self, descriptor: u32) -> Option<Kept> {
        self.open.get(&descriptor).map(|open| open.kept.clone())
    }

    /// Whether writes to a descriptor go to its end.
    pub(crate) fn appends(&self, descriptor: u32) -> bool {
        self.open.get(&descriptor).is_some_and(|open| open.appends)
    }

    /// Notes whether writes to a descriptor go to its end.
    pub(crate) fn set_appends(&mut self, descriptor: u32, appends: bool) {
        if let Some(open) = self.open.get_mut(&descriptor) {
            open.appends = appends;
        }
    }

    /// Notes what was opened at a path that was checked.
    pub(crate) fn opened(&mut self, descriptor: u32, checked: Checked, held: Option<Held>) {
        if let Checked(Some((volume, below))) = checked {
            let kept = self.keep(held);
            self.open.insert(descriptor, Open { volume, below, appends: false, kept });
        }
    }

    /// Notes that the root of a volume was given out once more.
    pub(crate) fn opened_root(&mut self, descriptor: u32, volume: usize) {
        if volume < self.volumes.len() {
            let kept = self.keep(None);
            self.open.insert(descriptor, Open { volume, below: PathBuf::new(), appends: false, kept });
        }
    }

    fn keep(&self, held: Option<Held>) -> Kept {
        Kept { _what: Arc::new((Arc::clone(&self.places), held)) }
    }

    /// Notes that a descriptor is gone.
    pub(crate) fn closed(&mut self, descriptor: u32) {
        self.open.remove(&descriptor);
    }

    /// Notes that the entries of a directory are held, which takes a place as an open file does.
    pub(crate) fn listed(&mut self, listing: u32) {
        let kept = self.keep(None);
        self.listings.insert(listing, kept);
    }

    /// Notes that a listing is gone.
    pub(crate) fn unlisted(&mut self, listing: u32) {
        self.listings.remove(&listing);
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

/// Whether that is what is found.
fn is_it(found: &Metadata, id: FileId) -> bool {
    FileId::of(found.dev(), found.ino()) == id
}

/// The capability for a place, where one can be written.
fn filesystem(guest: &str, access: FileAccess) -> Option<Capability> {
    format!("filesystem:{}:{guest}", access.as_str()).parse().ok()
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
}

//! What is known of a component's files before and after a call changes them, to count it against a quota, and to put on
//! record what was refused.

use mentat_manifest::FileAccess;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::{self, HostDescriptor};
use wasmtime_wasi::p2::{DynOutputStream, FsResult};

use super::GuardedFiles;
use super::arguments::facts;
use crate::host::file_streams::{Place, Writing};
use crate::host::paths::LastLink;
use crate::host::quota::{Facts, FileId, Turn};

impl GuardedFiles<'_> {
    /// A stream into a file, which counts what it writes.
    pub(super) fn counted(
        &mut self,
        fd: &Resource<Descriptor>,
        stream: Resource<DynOutputStream>,
        place: Place,
    ) -> FsResult<Resource<DynOutputStream>> {
        let (Some(quota), Some(kept)) = (self.files.quota(fd.rep()), self.files.kept(fd.rep())) else {
            return Ok(stream);
        };
        let Descriptor::File(file) = self.wasi.table.get(fd)? else { return Ok(stream) };
        let counted = Writing::new(file.clone(), place, quota, kept);
        // Wasmtime's has done nothing yet but say that the file may be written.
        self.wasi.table.delete(stream)?;
        let counted: DynOutputStream = Box::new(counted);
        Ok(self.wasi.table.push(counted)?)
    }

    /// Looks at what is about to be opened. What would keep whoever opens it waiting is not.
    pub(super) async fn look_before_opening(
        &mut self,
        directory: &Resource<Descriptor>,
        flags: types::PathFlags,
        path: &str,
        access: FileAccess,
    ) -> FsResult<()> {
        use types::DescriptorType::{Directory, RegularFile, SymbolicLink};
        match self.wasi.stat_at(again(directory), flags, path.to_owned()).await {
            Ok(found) if !matches!(found.type_, RegularFile | Directory | SymbolicLink) => {
                Err(self.files.refuse_special(directory.rep(), path, access).into())
            }
            // That it is not there, or not inside, is told when it is opened.
            _ => Ok(()),
        }
    }

    /// What is at a path, where it matters.
    pub(super) async fn facts_at(
        &mut self,
        turn: &Turn,
        directory: &Resource<Descriptor>,
        flags: types::PathFlags,
        path: &str,
    ) -> Option<Facts> {
        if !turn.counts() {
            return None;
        }
        let stat = self.wasi.stat_at(again(directory), flags, path.to_owned()).await.ok()?;
        let hash = self.wasi.metadata_hash_at(again(directory), flags, path.to_owned()).await.ok()?;
        Some(facts(&stat, &hash))
    }

    /// What a descriptor is, where it matters.
    pub(super) async fn facts(&mut self, turn: &Turn, fd: &Resource<Descriptor>) -> Option<Facts> {
        if !turn.counts() {
            return None;
        }
        let stat = self.wasi.stat(again(fd)).await.ok()?;
        let hash = self.wasi.metadata_hash(again(fd)).await.ok()?;
        Some(facts(&stat, &hash))
    }

    /// Whether a descriptor is open for writing. One that is not has an error of its own, room or no room.
    pub(super) async fn is_writable(&mut self, fd: &Resource<Descriptor>) -> bool {
        let flags = self.wasi.get_flags(again(fd)).await;
        flags.is_ok_and(|flags| flags.contains(types::DescriptorFlags::WRITE))
    }

    /// Notes what Wasmtime refused since the path led out of its directory.
    pub(super) async fn contained<T>(
        &mut self,
        done: FsResult<T>,
        fd: u32,
        path: &str,
        last: LastLink,
        access: FileAccess,
    ) -> FsResult<T> {
        if let Err(error) = &done
            && error.downcast_ref() == Some(&types::ErrorCode::NotPermitted)
            && let Ok(hash) = self.wasi.metadata_hash(Resource::new_borrow(fd)).await
        {
            self.files.note_escape(fd, FileId(hash.lower), path, last, access).await;
        }
        done
    }

    /// Notes what became of a name that was taken.
    pub(super) async fn named(
        &mut self,
        turn: &Turn,
        directory: &Resource<Descriptor>,
        path: &str,
        made: &FsResult<()>,
    ) {
        if made.is_err() {
            return turn.name_not_made();
        }
        let made = self.facts_at(turn, directory, types::PathFlags::empty(), path).await;
        turn.name_made(made.map(|made| made.id));
    }
}

/// The same descriptor, for a call that takes one.
pub(super) fn again(fd: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(fd.rep())
}

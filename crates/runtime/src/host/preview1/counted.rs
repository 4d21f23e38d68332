//! Calls of WASI 0.1 that make a directory larger or smaller, counted against its quota: what is there is measured before
//! and, where it is not known by then, after, while nobody else changes the directory.

use mentat_manifest::FileAccess;
use wasmtime_wasi::p1::types;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::{GuestMemory, GuestPtr};

use super::Preview1;
use super::arguments::{facts, first_length, last_link, text, wanted};
use crate::host::paths::LastLink;
use crate::host::quota::{Facts, Turn};
use crate::host::uninterrupted::uninterrupted;

/// What `path_open` is called with.
#[derive(Clone, Copy)]
pub(super) struct Opening {
    pub(super) directory: types::Fd,
    pub(super) lookup: types::Lookupflags,
    pub(super) path: GuestPtr<str>,
    pub(super) flags: types::Oflags,
    pub(super) rights: types::Rights,
    pub(super) inheriting: types::Rights,
    pub(super) status: types::Fdflags,
}

impl Preview1 {
    /// Opens a file, which may make or empty it. Whoever has the turn finds what was checked.
    pub(super) async fn open(
        &mut self,
        memory: &mut GuestMemory<'_>,
        opening: Opening,
    ) -> Result<types::Fd, types::Error> {
        let Opening { directory, lookup, path, flags, rights, inheriting, status } = opening;
        let (name, access) = (text(memory, path)?, wanted(flags, rights));
        let turn = self.files.turn(directory.into()).await;
        let checked = self.files.check(directory.into(), &name, last_link(lookup), access).await?;
        let found = self.look_before_opening(memory, directory, lookup, path, access).await?;
        let before = found.filter(|_| turn.counts()).map(|found| facts(&found));
        let is_new = flags.contains(types::Oflags::CREAT) && before.is_none();
        if is_new {
            turn.take_name()?;
        }
        let opening = self.wasi.path_open(memory, directory, lookup, path, flags, rights, inheriting, status);
        let opened = uninterrupted(opening).await;
        let opened = self.contained(memory, opened, directory, &name, last_link(lookup), access).await;
        let Ok(descriptor) = opened else {
            if is_new {
                turn.name_not_made();
            }
            return opened;
        };
        let now = self.facts(memory, &turn, descriptor).await;
        if is_new {
            turn.name_made(now.map(|now| now.id));
        }
        if turn.counts() && now.is_none() {
            // What cannot be counted is not held either.
            self.wasi.fd_close(memory, descriptor).await?;
            return Err(types::Errno::Io.into());
        }
        if let (Some(before), Some(now)) = (before, now)
            && before.id == now.id
        {
            turn.shrink(now.id, before.size.saturating_sub(now.size));
        }
        self.files.opened(descriptor.into(), checked, now.and_then(|now| turn.hold(now.id)));
        self.files.set_appends(descriptor.into(), status.contains(types::Fdflags::APPEND));
        Ok(descriptor)
    }

    /// What is at a path that is about to be opened. What would keep whoever opens it waiting is not.
    pub(super) async fn look_before_opening(
        &mut self,
        memory: &mut GuestMemory<'_>,
        directory: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        access: FileAccess,
    ) -> Result<Option<types::Filestat>, types::Error> {
        // That it is not there, or not inside, is told when it is opened.
        let Ok(found) = self.wasi.path_filestat_get(memory, directory, lookup, path).await else {
            return Ok(None);
        };
        match found.filetype {
            types::Filetype::RegularFile | types::Filetype::Directory | types::Filetype::SymbolicLink => {
                Ok(Some(found))
            }
            _ => Err(self.files.refuse_special(directory.into(), &text(memory, path)?, access).into()),
        }
    }

    /// Writes to a place in a file, or where the guest is in it.
    pub(super) async fn write(
        &mut self,
        memory: &mut GuestMemory<'_>,
        descriptor: types::Fd,
        buffers: types::CiovecArray,
        place: Option<types::Filesize>,
    ) -> Result<types::Size, types::Error> {
        let turn = self.files.turn(descriptor.into()).await;
        if !turn.counts() {
            return self.write_uncounted(memory, descriptor, buffers, place).await;
        }
        let before = self.facts(memory, &turn, descriptor).await.ok_or(types::Errno::Io)?;
        let length = first_length(memory, buffers)?;
        let start = match place {
            _ if self.files.appends(descriptor.into()) => before.size,
            Some(place) => place,
            // What has no place is no file, and is refused.
            None => self.wasi.fd_tell(memory, descriptor).unwrap_or_default(),
        };
        let taken = before.growth(start, length);
        if let Err(full) = turn.grow(before.id, taken) {
            return if self.is_writable(memory, descriptor).await {
                Err(full.into())
            } else {
                self.write_uncounted(memory, descriptor, buffers, place).await
            };
        }
        let written = uninterrupted(self.write_uncounted(memory, descriptor, buffers, place)).await;
        let used = written.as_ref().map_or(0, |written| before.growth(start, u64::from(*written)));
        turn.shrink(before.id, taken.saturating_sub(used));
        written
    }

    async fn write_uncounted(
        &mut self,
        memory: &mut GuestMemory<'_>,
        descriptor: types::Fd,
        buffers: types::CiovecArray,
        place: Option<types::Filesize>,
    ) -> Result<types::Size, types::Error> {
        match place {
            Some(place) => self.wasi.fd_pwrite(memory, descriptor, buffers, place).await,
            None => self.wasi.fd_write(memory, descriptor, buffers).await,
        }
    }

    /// Gives a file another size.
    pub(super) async fn resize(
        &mut self,
        memory: &mut GuestMemory<'_>,
        descriptor: types::Fd,
        size: types::Filesize,
    ) -> Result<(), types::Error> {
        let turn = self.files.turn(descriptor.into()).await;
        if !turn.counts() {
            return self.wasi.fd_filestat_set_size(memory, descriptor, size).await;
        }
        let before = self.facts(memory, &turn, descriptor).await.ok_or(types::Errno::Io)?;
        let grown = before.growth_to(size);
        if let Err(full) = turn.grow(before.id, grown) {
            return if self.is_writable(memory, descriptor).await {
                Err(full.into())
            } else {
                self.wasi.fd_filestat_set_size(memory, descriptor, size).await
            };
        }
        let done = uninterrupted(self.wasi.fd_filestat_set_size(memory, descriptor, size)).await;
        turn.shrink(before.id, if done.is_ok() { before.size.saturating_sub(size) } else { grown });
        done
    }

    /// Whether a descriptor is open for writing. One that is not has an error of its own, room or no room.
    async fn is_writable(&mut self, memory: &mut GuestMemory<'_>, descriptor: types::Fd) -> bool {
        let found = self.wasi.fd_fdstat_get(memory, descriptor).await;
        found.is_ok_and(|found| found.fs_rights_base.contains(types::Rights::FD_WRITE))
    }

    /// Notes what Wasmtime refused since the path led out of its directory.
    pub(super) async fn contained<T>(
        &mut self,
        memory: &mut GuestMemory<'_>,
        done: Result<T, types::Error>,
        directory: types::Fd,
        path: &str,
        last: LastLink,
        access: FileAccess,
    ) -> Result<T, types::Error> {
        if let Err(error) = &done
            && error.downcast_ref() == Some(&types::Errno::Perm)
            && let Ok(found) = self.wasi.fd_filestat_get(memory, directory).await
        {
            self.files.note_escape(directory.into(), facts(&found).id, path, last, access).await;
        }
        done
    }

    /// Notes what became of a name that was taken.
    pub(super) async fn named<T>(
        &mut self,
        memory: &mut GuestMemory<'_>,
        turn: &Turn,
        directory: types::Fd,
        path: GuestPtr<str>,
        made: &Result<T, types::Error>,
    ) {
        if made.is_err() {
            return turn.name_not_made();
        }
        let made = self.facts_at(memory, turn, directory, types::Lookupflags::empty(), path).await;
        turn.name_made(made.map(|made| made.id));
    }

    /// What is at a path, where it matters.
    pub(super) async fn facts_at(
        &mut self,
        memory: &mut GuestMemory<'_>,
        turn: &Turn,
        directory: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
    ) -> Option<Facts> {
        if !turn.counts() {
            return None;
        }
        let found = self.wasi.path_filestat_get(memory, directory, lookup, path).await;
        found.ok().map(|found| facts(&found))
    }

    /// What a descriptor is, where it matters.
    async fn facts(
        &mut self,
        memory: &mut GuestMemory<'_>,
        turn: &Turn,
        descriptor: types::Fd,
    ) -> Option<Facts> {
        if !turn.counts() {
            return None;
        }
        self.wasi.fd_filestat_get(memory, descriptor).await.ok().map(|found| facts(&found))
    }
}

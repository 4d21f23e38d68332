//! WASI 0.1 for core modules: Wasmtime's own, with a check before what it does not check itself. Files go by
//! [`Descriptors`], what they may add to a directory by its quota, polling by its bounds; all else is handed through as
//! it comes.

mod arguments;
mod counted;

use mentat_manifest::FileAccess;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wasmtime_wasi::p1::{WasiP1Ctx, types};
use wiggle::{GuestMemory, GuestPtr};

pub(crate) use self::arguments::MAX_SUBSCRIPTIONS;
use self::arguments::{facts, last_link, text};
use self::counted::Opening;
use super::budget::Sleep;
use super::descriptors::Descriptors;
use super::paths::LastLink;
use super::uninterrupted::uninterrupted;

/// The descriptor of the first directory, after stdin, stdout and stderr.
pub(crate) const FIRST_DIRECTORY: u32 = 3;

/// The WASI 0.1 state of a core module.
pub(crate) struct Preview1 {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) files: Descriptors,
    pub(crate) sleep: Sleep,
}

/// Calls that Wasmtime's own answers as they come.
macro_rules! handed_through {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => { $(
        fn $name(
            &mut self,
            memory: &mut GuestMemory<'_>,
            $($argument: $kind),*
        ) -> Result<$answer, types::Error> {
            self.wasi.$name(memory, $($argument),*)
        }
    )* };
    ($(async fn $name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => { $(
        async fn $name(
            &mut self,
            memory: &mut GuestMemory<'_>,
            $($argument: $kind),*
        ) -> Result<$answer, types::Error> {
            self.wasi.$name(memory, $($argument),*).await
        }
    )* };
}

impl WasiSnapshotPreview1 for Preview1 {
    handed_through! {
        fn args_get(argv: GuestPtr<GuestPtr<u8>>, argv_buf: GuestPtr<u8>) -> ();
        fn args_sizes_get() -> (types::Size, types::Size);
        fn environ_get(environ: GuestPtr<GuestPtr<u8>>, environ_buf: GuestPtr<u8>) -> ();
        fn environ_sizes_get() -> (types::Size, types::Size);
        fn clock_res_get(id: types::Clockid) -> types::Timestamp;
        fn clock_time_get(id: types::Clockid, precision: types::Timestamp) -> types::Timestamp;
        fn fd_allocate(fd: types::Fd, offset: types::Filesize, length: types::Filesize) -> ();
        fn fd_fdstat_set_rights(fd: types::Fd, base: types::Rights, inheriting: types::Rights) -> ();
        fn fd_prestat_get(fd: types::Fd) -> types::Prestat;
        fn fd_prestat_dir_name(fd: types::Fd, path: GuestPtr<u8>, path_max_len: types::Size) -> ();
        fn fd_tell(fd: types::Fd) -> types::Filesize;
        fn proc_raise(signal: types::Signal) -> ();
        fn sched_yield() -> ();
        fn random_get(buf: GuestPtr<u8>, buf_len: types::Size) -> ();
        fn sock_accept(fd: types::Fd, flags: types::Fdflags) -> types::Fd;
        fn sock_recv(
            fd: types::Fd, ri_data: types::IovecArray, ri_flags: types::Riflags
        ) -> (types::Size, types::Roflags);
        fn sock_send(fd: types::Fd, si_data: types::CiovecArray, flags: types::Siflags) -> types::Size;
        fn sock_shutdown(fd: types::Fd, how: types::Sdflags) -> ();
    }

    handed_through! {
        async fn fd_advise(
            fd: types::Fd, offset: types::Filesize, len: types::Filesize, advice: types::Advice
        ) -> ();
        async fn fd_datasync(fd: types::Fd) -> ();
        async fn fd_fdstat_get(fd: types::Fd) -> types::Fdstat;
        async fn fd_filestat_get(fd: types::Fd) -> types::Filestat;
        async fn fd_read(fd: types::Fd, iovs: types::IovecArray) -> types::Size;
        async fn fd_pread(fd: types::Fd, iovs: types::IovecArray, offset: types::Filesize) -> types::Size;
        async fn fd_seek(fd: types::Fd, offset: types::Filedelta, whence: types::Whence) -> types::Filesize;
        async fn fd_sync(fd: types::Fd) -> ();
    }

    fn set_hostcall_fuel(&mut self, fuel: usize) {
        self.wasi.set_hostcall_fuel(fuel);
    }

    async fn fd_close(&mut self, memory: &mut GuestMemory<'_>, fd: types::Fd) -> Result<(), types::Error> {
        let closed = self.wasi.fd_close(memory, fd).await;
        if closed.is_ok() {
            self.files.closed(fd.into());
        }
        closed
    }

    fn fd_fdstat_set_flags(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        flags: types::Fdflags,
    ) -> Result<(), types::Error> {
        self.wasi.fd_fdstat_set_flags(memory, fd, flags)?;
        self.files.set_appends(fd.into(), flags.contains(types::Fdflags::APPEND));
        Ok(())
    }

    async fn fd_filestat_set_size(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        size: types::Filesize,
    ) -> Result<(), types::Error> {
        self.resize(memory, fd, size).await
    }

    async fn fd_filestat_set_times(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        atim: types::Timestamp,
        mtim: types::Timestamp,
        fst_flags: types::Fstflags,
    ) -> Result<(), types::Error> {
        self.files.check_open(fd.into(), FileAccess::Write).await?;
        self.wasi.fd_filestat_set_times(memory, fd, atim, mtim, fst_flags).await
    }

    async fn fd_write(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        ciovs: types::CiovecArray,
    ) -> Result<types::Size, types::Error> {
        self.write(memory, fd, ciovs, None).await
    }

    async fn fd_pwrite(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        ciovs: types::CiovecArray,
        offset: types::Filesize,
    ) -> Result<types::Size, types::Error> {
        self.write(memory, fd, ciovs, Some(offset)).await
    }

    async fn fd_renumber(
        &mut self,
        memory: &mut GuestMemory<'_>,
        from_fd: types::Fd,
        to_fd: types::Fd,
    ) -> Result<(), types::Error> {
        let renumbered = self.wasi.fd_renumber(memory, from_fd, to_fd).await;
        if renumbered.is_ok() {
            self.files.renumbered(from_fd.into(), to_fd.into());
        }
        renumbered
    }

    async fn fd_readdir(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        buf: GuestPtr<u8>,
        buf_len: types::Size,
        cookie: types::Dircookie,
    ) -> Result<types::Size, types::Error> {
        // What is no directory Wasmtime refuses by itself.
        if let Ok(found) = self.wasi.fd_filestat_get(memory, fd).await
            && found.filetype == types::Filetype::Directory
        {
            self.files.check_list(fd.into(), facts(&found).id).await?;
        }
        self.wasi.fd_readdir(memory, fd, buf, buf_len, cookie).await
    }

    async fn path_create_directory(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<(), types::Error> {
        let name = text(memory, path)?;
        let turn = self.files.turn(dirfd.into()).await;
        self.files.check(dirfd.into(), &name, LastLink::Keep, FileAccess::Write).await?;
        turn.take_name()?;
        let made = uninterrupted(self.wasi.path_create_directory(memory, dirfd, path)).await;
        let made = self.contained(memory, made, dirfd, &name, LastLink::Keep, FileAccess::Write).await;
        self.named(memory, &turn, dirfd, path, &made).await;
        made
    }

    async fn path_filestat_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        flags: types::Lookupflags,
        path: GuestPtr<str>,
    ) -> Result<types::Filestat, types::Error> {
        let name = text(memory, path)?;
        self.files.check(dirfd.into(), &name, last_link(flags), FileAccess::Read).await?;
        let found = self.wasi.path_filestat_get(memory, dirfd, flags, path).await;
        self.contained(memory, found, dirfd, &name, last_link(flags), FileAccess::Read).await
    }

    async fn path_filestat_set_times(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        flags: types::Lookupflags,
        path: GuestPtr<str>,
        atim: types::Timestamp,
        mtim: types::Timestamp,
        fst_flags: types::Fstflags,
    ) -> Result<(), types::Error> {
        let name = text(memory, path)?;
        // Wasmtime opens it for this.
        let _turn = self.files.turn(dirfd.into()).await;
        self.files.check(dirfd.into(), &name, last_link(flags), FileAccess::Write).await?;
        self.look_before_opening(memory, dirfd, flags, path, FileAccess::Write).await?;
        let setting = self.wasi.path_filestat_set_times(memory, dirfd, flags, path, atim, mtim, fst_flags);
        let set = uninterrupted(setting).await;
        self.contained(memory, set, dirfd, &name, last_link(flags), FileAccess::Write).await
    }

    async fn path_link(
        &mut self,
        memory: &mut GuestMemory<'_>,
        src_fd: types::Fd,
        src_flags: types::Lookupflags,
        src_path: GuestPtr<str>,
        target_fd: types::Fd,
        target_path: GuestPtr<str>,
    ) -> Result<(), types::Error> {
        let (source, target) = (text(memory, src_path)?, text(memory, target_path)?);
        self.files.check_between(src_fd.into(), target_fd.into())?;
        let turn = self.files.turn(target_fd.into()).await;
        self.files.check_moved((src_fd.into(), &source), (target_fd.into(), &target)).await?;
        turn.take_name()?;
        let made =
            uninterrupted(self.wasi.path_link(memory, src_fd, src_flags, src_path, target_fd, target_path))
                .await;
        let made =
            self.contained(memory, made, src_fd, &source, last_link(src_flags), FileAccess::Write).await;
        let made = self.contained(memory, made, target_fd, &target, LastLink::Keep, FileAccess::Write).await;
        self.named(memory, &turn, target_fd, target_path, &made).await;
        made
    }

    async fn path_open(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        dirflags: types::Lookupflags,
        path: GuestPtr<str>,
        oflags: types::Oflags,
        rights: types::Rights,
        inheriting: types::Rights,
        status: types::Fdflags,
    ) -> Result<types::Fd, types::Error> {
        self.files.check_room()?;
        let opening =
            Opening { directory: dirfd, lookup: dirflags, path, flags: oflags, rights, inheriting, status };
        self.open(memory, opening).await
    }

    async fn path_readlink(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
        buf: GuestPtr<u8>,
        buf_len: types::Size,
    ) -> Result<types::Size, types::Error> {
        let name = text(memory, path)?;
        self.files.check(dirfd.into(), &name, LastLink::Keep, FileAccess::Read).await?;
        let read = self.wasi.path_readlink(memory, dirfd, path, buf, buf_len).await;
        self.contained(memory, read, dirfd, &name, LastLink::Keep, FileAccess::Read).await
    }

    async fn path_remove_directory(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<(), types::Error> {
        let name = text(memory, path)?;
        let turn = self.files.turn(dirfd.into()).await;
        self.files.check(dirfd.into(), &name, LastLink::Keep, FileAccess::Write).await?;
        let before = self.facts_at(memory, &turn, dirfd, types::Lookupflags::empty(), path).await;
        let removed = uninterrupted(self.wasi.path_remove_directory(memory, dirfd, path)).await;
        self.contained(memory, removed, dirfd, &name, LastLink::Keep, FileAccess::Write).await?;
        before.iter().for_each(|before| turn.removed(before));
        Ok(())
    }

    async fn path_rename(
        &mut self,
        memory: &mut GuestMemory<'_>,
        src_fd: types::Fd,
        src_path: GuestPtr<str>,
        dest_fd: types::Fd,
        dest_path: GuestPtr<str>,
    ) -> Result<(), types::Error> {
        let (source, target) = (text(memory, src_path)?, text(memory, dest_path)?);
        self.files.check_between(src_fd.into(), dest_fd.into())?;
        let turn = self.files.turn(dest_fd.into()).await;
        self.files.check_moved((src_fd.into(), &source), (dest_fd.into(), &target)).await?;
        let kept = types::Lookupflags::empty();
        let moved = self.facts_at(memory, &turn, src_fd, kept, src_path).await;
        let replaced = self.facts_at(memory, &turn, dest_fd, kept, dest_path).await;
        let renamed =
            uninterrupted(self.wasi.path_rename(memory, src_fd, src_path, dest_fd, dest_path)).await;
        let renamed =
            self.contained(memory, renamed, src_fd, &source, LastLink::Keep, FileAccess::Write).await;
        self.contained(memory, renamed, dest_fd, &target, LastLink::Keep, FileAccess::Write).await?;
        turn.replaced(moved, replaced);
        Ok(())
    }

    async fn path_symlink(
        &mut self,
        memory: &mut GuestMemory<'_>,
        src_path: GuestPtr<str>,
        dirfd: types::Fd,
        dest_path: GuestPtr<str>,
    ) -> Result<(), types::Error> {
        let name = text(memory, dest_path)?;
        let turn = self.files.turn(dirfd.into()).await;
        self.files.check_link(dirfd.into(), &name).await?;
        turn.take_name()?;
        let made = uninterrupted(self.wasi.path_symlink(memory, src_path, dirfd, dest_path)).await;
        let made = self.contained(memory, made, dirfd, &name, LastLink::Keep, FileAccess::Write).await;
        self.named(memory, &turn, dirfd, dest_path, &made).await;
        made
    }

    async fn path_unlink_file(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<(), types::Error> {
        let name = text(memory, path)?;
        let turn = self.files.turn(dirfd.into()).await;
        self.files.check(dirfd.into(), &name, LastLink::Keep, FileAccess::Write).await?;
        let before = self.facts_at(memory, &turn, dirfd, types::Lookupflags::empty(), path).await;
        let removed = uninterrupted(self.wasi.path_unlink_file(memory, dirfd, path)).await;
        self.contained(memory, removed, dirfd, &name, LastLink::Keep, FileAccess::Write).await?;
        before.iter().for_each(|before| turn.removed(before));
        Ok(())
    }

    async fn poll_oneoff(
        &mut self,
        memory: &mut GuestMemory<'_>,
        subs: GuestPtr<types::Subscription>,
        events: GuestPtr<types::Event>,
        nsubscriptions: types::Size,
    ) -> Result<types::Size, types::Error> {
        if nsubscriptions > MAX_SUBSCRIPTIONS {
            return Err(types::Errno::Nomem.into());
        }
        let Self { wasi, sleep, .. } = self;
        sleep
            .through(wasi.poll_oneoff(memory, subs, events, nsubscriptions))
            .await
            .map_err(|overslept| types::Error::trap(overslept.into()))?
    }

    fn proc_exit(&mut self, memory: &mut GuestMemory<'_>, status: types::Exitcode) -> wasmtime::Error {
        self.wasi.proc_exit(memory, status)
    }
}

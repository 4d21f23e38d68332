//! WASI 0.1 for core modules: Wasmtime's own, with a check before what it does not check itself. Files go by
//! [`Descriptors`], polling by its bounds; all else is handed through as it comes.

use mentat_manifest::FileAccess;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wasmtime_wasi::p1::{WasiP1Ctx, types};
use wiggle::{GuestMemory, GuestPtr};

use super::budget::Sleep;
use super::descriptors::{Descriptors, MAX_PATH_BYTES, Refusal, Writing};
use super::paths::LastLink;
use super::volumes::ENTRY_BYTES;

/// Buffers of one write to a file at most, as on Linux.
const MAX_BUFFERS: u32 = 1024;
/// Subscriptions of one poll at most; each is a timer or a waiter of the host's.
pub(crate) const MAX_SUBSCRIPTIONS: u32 = 4096;
/// The descriptor of the first directory, after stdin, stdout and stderr.
pub(crate) const FIRST_DIRECTORY: u32 = 3;

/// The WASI 0.1 state of a core module.
pub(crate) struct Preview1 {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) files: Descriptors,
    pub(crate) sleep: Sleep,
}

/// A path that the guest passes.
fn text(memory: &GuestMemory<'_>, path: GuestPtr<str>) -> Result<String, types::Error> {
    if usize::try_from(path.len()).map_or(true, |length| length > MAX_PATH_BYTES) {
        return Err(types::Errno::Nametoolong.into());
    }
    Ok(memory.as_cow_str(path)?.into_owned())
}

/// Bytes that a write will write: Wasmtime's takes the first buffer that has any.
fn first_length(memory: &GuestMemory<'_>, buffers: types::CiovecArray) -> Result<u64, types::Error> {
    if buffers.len() > MAX_BUFFERS {
        return Err(types::Errno::Inval.into());
    }
    for buffer in buffers.iter() {
        let buffer = memory.read(buffer?)?;
        if buffer.buf_len > 0 {
            return Ok(buffer.buf_len.into());
        }
    }
    Ok(0)
}

fn last_link(flags: types::Lookupflags) -> LastLink {
    if flags.contains(types::Lookupflags::SYMLINK_FOLLOW) { LastLink::Follow } else { LastLink::Keep }
}

/// What will be possible with what is opened so. What is not opened for writing Wasmtime opens for reading, whatever was
/// asked for.
fn wanted(flags: types::Oflags, rights: types::Rights) -> FileAccess {
    let writes = rights.contains(types::Rights::FD_WRITE);
    let changes = writes || flags.intersects(types::Oflags::CREAT | types::Oflags::TRUNC);
    match (rights.contains(types::Rights::FD_READ) || !writes, changes) {
        (true, true) => FileAccess::ReadWrite,
        (true, false) => FileAccess::Read,
        (false, _) => FileAccess::Write,
    }
}

impl Preview1 {
    /// Takes what a write takes of the quota, at an offset or where the file stands.
    async fn writing(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        buffers: types::CiovecArray,
        offset: Option<types::Filesize>,
    ) -> Result<Writing, types::Error> {
        if !self.files.is_open(fd.into()) {
            return Ok(Writing::default());
        }
        let length = first_length(memory, buffers)?;
        let offset = match offset {
            Some(offset) => offset,
            None => self.wasi.fd_tell(memory, fd)?,
        };
        // Most writes go on where the last one ended, and need no look at the file.
        let size = if self.files.goes_on(fd.into(), offset) {
            offset
        } else {
            self.wasi.fd_filestat_get(memory, fd).await?.size
        };
        Ok(self.files.take_write(fd.into(), size, offset, length)?)
    }
}

impl From<Refusal> for types::Error {
    fn from(refusal: Refusal) -> Self {
        let errno = match refusal {
            Refusal::Denied => types::Errno::Acces,
            Refusal::TooMany => types::Errno::Mfile,
            Refusal::Full => types::Errno::Nospc,
            Refusal::TooLarge => types::Errno::Overflow,
            Refusal::TooLong => types::Errno::Nametoolong,
        };
        errno.into()
    }
}

impl WasiSnapshotPreview1 for Preview1 {
    fn set_hostcall_fuel(&mut self, fuel: usize) {
        self.wasi.set_hostcall_fuel(fuel);
    }

    fn args_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        argv: GuestPtr<GuestPtr<u8>>,
        argv_buf: GuestPtr<u8>,
    ) -> Result<(), types::Error> {
        self.wasi.args_get(memory, argv, argv_buf)
    }

    fn args_sizes_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
    ) -> Result<(types::Size, types::Size), types::Error> {
        self.wasi.args_sizes_get(memory)
    }

    fn environ_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        environ: GuestPtr<GuestPtr<u8>>,
        environ_buf: GuestPtr<u8>,
    ) -> Result<(), types::Error> {
        self.wasi.environ_get(memory, environ, environ_buf)
    }

    fn environ_sizes_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
    ) -> Result<(types::Size, types::Size), types::Error> {
        self.wasi.environ_sizes_get(memory)
    }

    fn clock_res_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        id: types::Clockid,
    ) -> Result<types::Timestamp, types::Error> {
        self.wasi.clock_res_get(memory, id)
    }

    fn clock_time_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        id: types::Clockid,
        precision: types::Timestamp,
    ) -> Result<types::Timestamp, types::Error> {
        self.wasi.clock_time_get(memory, id, precision)
    }

    async fn fd_advise(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        offset: types::Filesize,
        len: types::Filesize,
        advice: types::Advice,
    ) -> Result<(), types::Error> {
        self.wasi.fd_advise(memory, fd, offset, len, advice).await
    }

    fn fd_allocate(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        offset: types::Filesize,
        length: types::Filesize,
    ) -> Result<(), types::Error> {
        self.wasi.fd_allocate(memory, fd, offset, length)
    }

    async fn fd_close(&mut self, memory: &mut GuestMemory<'_>, fd: types::Fd) -> Result<(), types::Error> {
        let closed = self.wasi.fd_close(memory, fd).await;
        if closed.is_ok() {
            self.files.closed(fd.into());
        }
        closed
    }

    async fn fd_datasync(&mut self, memory: &mut GuestMemory<'_>, fd: types::Fd) -> Result<(), types::Error> {
        self.wasi.fd_datasync(memory, fd).await
    }

    async fn fd_fdstat_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
    ) -> Result<types::Fdstat, types::Error> {
        self.wasi.fd_fdstat_get(memory, fd).await
    }

    fn fd_fdstat_set_flags(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        flags: types::Fdflags,
    ) -> Result<(), types::Error> {
        self.wasi.fd_fdstat_set_flags(memory, fd, flags)
    }

    fn fd_fdstat_set_rights(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        rights_base: types::Rights,
        rights_inheriting: types::Rights,
    ) -> Result<(), types::Error> {
        self.wasi.fd_fdstat_set_rights(memory, fd, rights_base, rights_inheriting)
    }

    async fn fd_filestat_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
    ) -> Result<types::Filestat, types::Error> {
        self.wasi.fd_filestat_get(memory, fd).await
    }

    async fn fd_filestat_set_size(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        size: types::Filesize,
    ) -> Result<(), types::Error> {
        let before = self.wasi.fd_filestat_get(memory, fd).await?.size;
        let grown = size.saturating_sub(before);
        self.files.take(fd.into(), grown)?;
        let done = self.wasi.fd_filestat_set_size(memory, fd, size).await;
        if done.is_err() {
            self.files.give_back(fd.into(), grown);
        }
        done
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

    async fn fd_read(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        iovs: types::IovecArray,
    ) -> Result<types::Size, types::Error> {
        self.wasi.fd_read(memory, fd, iovs).await
    }

    async fn fd_pread(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        iovs: types::IovecArray,
        offset: types::Filesize,
    ) -> Result<types::Size, types::Error> {
        self.wasi.fd_pread(memory, fd, iovs, offset).await
    }

    async fn fd_write(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        ciovs: types::CiovecArray,
    ) -> Result<types::Size, types::Error> {
        let writing = self.writing(memory, fd, ciovs, None).await?;
        let written = self.wasi.fd_write(memory, fd, ciovs).await;
        self.files.wrote(fd.into(), writing, written.as_ref().ok().map(|written| u64::from(*written)));
        written
    }

    async fn fd_pwrite(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        ciovs: types::CiovecArray,
        offset: types::Filesize,
    ) -> Result<types::Size, types::Error> {
        let writing = self.writing(memory, fd, ciovs, Some(offset)).await?;
        let written = self.wasi.fd_pwrite(memory, fd, ciovs, offset).await;
        self.files.wrote(fd.into(), writing, written.as_ref().ok().map(|written| u64::from(*written)));
        written
    }

    fn fd_prestat_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
    ) -> Result<types::Prestat, types::Error> {
        self.wasi.fd_prestat_get(memory, fd)
    }

    fn fd_prestat_dir_name(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        path: GuestPtr<u8>,
        path_max_len: types::Size,
    ) -> Result<(), types::Error> {
        self.wasi.fd_prestat_dir_name(memory, fd, path, path_max_len)
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

    async fn fd_seek(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        offset: types::Filedelta,
        whence: types::Whence,
    ) -> Result<types::Filesize, types::Error> {
        self.wasi.fd_seek(memory, fd, offset, whence).await
    }

    async fn fd_sync(&mut self, memory: &mut GuestMemory<'_>, fd: types::Fd) -> Result<(), types::Error> {
        self.wasi.fd_sync(memory, fd).await
    }

    fn fd_tell(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
    ) -> Result<types::Filesize, types::Error> {
        self.wasi.fd_tell(memory, fd)
    }

    async fn fd_readdir(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        buf: GuestPtr<u8>,
        buf_len: types::Size,
        cookie: types::Dircookie,
    ) -> Result<types::Size, types::Error> {
        self.files.check_list(fd.into()).await?;
        self.wasi.fd_readdir(memory, fd, buf, buf_len, cookie).await
    }

    async fn path_create_directory(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<(), types::Error> {
        let name = text(memory, path)?;
        self.files.check_new(dirfd.into(), &name).await?;
        self.wasi.path_create_directory(memory, dirfd, path).await
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
        self.wasi.path_filestat_get(memory, dirfd, flags, path).await
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
        self.files.check(dirfd.into(), &name, last_link(flags), FileAccess::Write).await?;
        self.wasi.path_filestat_set_times(memory, dirfd, flags, path, atim, mtim, fst_flags).await
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
        self.files.check_moved(src_fd.into(), &source).await?;
        self.files.check_moved(target_fd.into(), &target).await?;
        self.files.check_new(target_fd.into(), &target).await?;
        self.wasi.path_link(memory, src_fd, src_flags, src_path, target_fd, target_path).await
    }

    async fn path_open(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        dirflags: types::Lookupflags,
        path: GuestPtr<str>,
        oflags: types::Oflags,
        fs_rights_base: types::Rights,
        rights_inheriting: types::Rights,
        fdflags: types::Fdflags,
    ) -> Result<types::Fd, types::Error> {
        self.files.check_room()?;
        let name = text(memory, path)?;
        let access = wanted(oflags, fs_rights_base);
        let checked = self.files.check_opened(dirfd.into(), &name, last_link(dirflags), access).await?;
        let made = if oflags.contains(types::Oflags::CREAT) { ENTRY_BYTES } else { 0 };
        self.files.take(dirfd.into(), made)?;
        let opened = self
            .wasi
            .path_open(memory, dirfd, dirflags, path, oflags, fs_rights_base, rights_inheriting, fdflags)
            .await;
        match &opened {
            Ok(fd) => self.files.opened((*fd).into(), checked),
            Err(_) => self.files.give_back(dirfd.into(), made),
        }
        opened
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
        self.wasi.path_readlink(memory, dirfd, path, buf, buf_len).await
    }

    async fn path_remove_directory(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<(), types::Error> {
        let name = text(memory, path)?;
        self.files.check(dirfd.into(), &name, LastLink::Keep, FileAccess::Write).await?;
        self.wasi.path_remove_directory(memory, dirfd, path).await
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
        self.files.check_moved(src_fd.into(), &source).await?;
        self.files.check_moved(dest_fd.into(), &target).await?;
        self.wasi.path_rename(memory, src_fd, src_path, dest_fd, dest_path).await
    }

    async fn path_symlink(
        &mut self,
        memory: &mut GuestMemory<'_>,
        src_path: GuestPtr<str>,
        dirfd: types::Fd,
        dest_path: GuestPtr<str>,
    ) -> Result<(), types::Error> {
        let name = text(memory, dest_path)?;
        self.files.check_link(dirfd.into(), &name).await?;
        self.wasi.path_symlink(memory, src_path, dirfd, dest_path).await
    }

    async fn path_unlink_file(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<(), types::Error> {
        let name = text(memory, path)?;
        self.files.check(dirfd.into(), &name, LastLink::Keep, FileAccess::Write).await?;
        self.wasi.path_unlink_file(memory, dirfd, path).await
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

    fn proc_raise(
        &mut self,
        memory: &mut GuestMemory<'_>,
        signal: types::Signal,
    ) -> Result<(), types::Error> {
        self.wasi.proc_raise(memory, signal)
    }

    fn sched_yield(&mut self, memory: &mut GuestMemory<'_>) -> Result<(), types::Error> {
        self.wasi.sched_yield(memory)
    }

    fn random_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        buf: GuestPtr<u8>,
        buf_len: types::Size,
    ) -> Result<(), types::Error> {
        self.wasi.random_get(memory, buf, buf_len)
    }

    fn sock_accept(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        flags: types::Fdflags,
    ) -> Result<types::Fd, types::Error> {
        self.wasi.sock_accept(memory, fd, flags)
    }

    fn sock_recv(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        ri_data: types::IovecArray,
        ri_flags: types::Riflags,
    ) -> Result<(types::Size, types::Roflags), types::Error> {
        self.wasi.sock_recv(memory, fd, ri_data, ri_flags)
    }

    fn sock_send(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        si_data: types::CiovecArray,
        flags: types::Siflags,
    ) -> Result<types::Size, types::Error> {
        self.wasi.sock_send(memory, fd, si_data, flags)
    }

    fn sock_shutdown(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        how: types::Sdflags,
    ) -> Result<(), types::Error> {
        self.wasi.sock_shutdown(memory, fd, how)
    }
}

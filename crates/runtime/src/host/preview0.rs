//! WASI 0.1's forerunner, `wasi_unstable`, which old toolchains still emit: each call is its successor's, with the same
//! checks. What differs between the two is the shape of a few structures, which Wasmtime knows how to convert.

use wasmtime_wasi::p0::types;
use wasmtime_wasi::p0::wasi_unstable::WasiUnstable;
use wasmtime_wasi::p1::types as successor;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::{GuestMemory, GuestPtr};

use super::preview1::{MAX_SUBSCRIPTIONS, Preview1};

/// Calls that are their successors, with arguments and answers in the shapes of each.
macro_rules! as_successor {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => { $(
        fn $name(
            &mut self,
            memory: &mut GuestMemory<'_>,
            $($argument: $kind),*
        ) -> Result<$answer, types::Error> {
            let answer = WasiSnapshotPreview1::$name(self, memory, $($argument.into()),*)?;
            Ok(answer.into())
        }
    )* };
    ($(async fn $name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => { $(
        async fn $name(
            &mut self,
            memory: &mut GuestMemory<'_>,
            $($argument: $kind),*
        ) -> Result<$answer, types::Error> {
            let answer = WasiSnapshotPreview1::$name(self, memory, $($argument.into()),*).await?;
            Ok(answer.into())
        }
    )* };
}

/// Calls that move bytes: lists of buffers have the same shape in both.
macro_rules! with_buffers {
    ($(async fn $name:ident($buffers:ty $(, $offset:ident)?);)*) => { $(
        async fn $name(
            &mut self,
            memory: &mut GuestMemory<'_>,
            fd: types::Fd,
            buffers: $buffers,
            $($offset: types::Filesize,)?
        ) -> Result<types::Size, types::Error> {
            let moved = WasiSnapshotPreview1::$name(self, memory, fd.into(), buffers.cast() $(, $offset)?);
            Ok(moved.await?)
        }
    )* };
}

impl WasiUnstable for Preview1 {
    as_successor! {
        fn args_get(argv: GuestPtr<GuestPtr<u8>>, argv_buf: GuestPtr<u8>) -> ();
        fn args_sizes_get() -> (types::Size, types::Size);
        fn environ_get(environ: GuestPtr<GuestPtr<u8>>, environ_buf: GuestPtr<u8>) -> ();
        fn environ_sizes_get() -> (types::Size, types::Size);
        fn clock_res_get(id: types::Clockid) -> types::Timestamp;
        fn clock_time_get(id: types::Clockid, precision: types::Timestamp) -> types::Timestamp;
        fn fd_allocate(fd: types::Fd, offset: types::Filesize, len: types::Filesize) -> ();
        fn fd_fdstat_set_flags(fd: types::Fd, flags: types::Fdflags) -> ();
        fn fd_fdstat_set_rights(fd: types::Fd, base: types::Rights, inheriting: types::Rights) -> ();
        fn fd_prestat_get(fd: types::Fd) -> types::Prestat;
        fn fd_prestat_dir_name(fd: types::Fd, path: GuestPtr<u8>, path_max_len: types::Size) -> ();
        fn fd_tell(fd: types::Fd) -> types::Filesize;
        fn proc_raise(signal: types::Signal) -> ();
        fn sched_yield() -> ();
        fn random_get(buf: GuestPtr<u8>, buf_len: types::Size) -> ();
    }

    as_successor! {
        async fn fd_advise(
            fd: types::Fd, offset: types::Filesize, len: types::Filesize, advice: types::Advice
        ) -> ();
        async fn fd_close(fd: types::Fd) -> ();
        async fn fd_datasync(fd: types::Fd) -> ();
        async fn fd_fdstat_get(fd: types::Fd) -> types::Fdstat;
        async fn fd_filestat_get(fd: types::Fd) -> types::Filestat;
        async fn fd_filestat_set_size(fd: types::Fd, size: types::Filesize) -> ();
        async fn fd_filestat_set_times(
            fd: types::Fd, atim: types::Timestamp, mtim: types::Timestamp, flags: types::Fstflags
        ) -> ();
        async fn fd_renumber(from: types::Fd, to: types::Fd) -> ();
        async fn fd_seek(fd: types::Fd, offset: types::Filedelta, whence: types::Whence) -> types::Filesize;
        async fn fd_sync(fd: types::Fd) -> ();
        async fn fd_readdir(
            fd: types::Fd, buf: GuestPtr<u8>, buf_len: types::Size, cookie: types::Dircookie
        ) -> types::Size;
        async fn path_create_directory(dirfd: types::Fd, path: GuestPtr<str>) -> ();
        async fn path_filestat_get(
            dirfd: types::Fd, flags: types::Lookupflags, path: GuestPtr<str>
        ) -> types::Filestat;
        async fn path_filestat_set_times(
            dirfd: types::Fd, flags: types::Lookupflags, path: GuestPtr<str>,
            atim: types::Timestamp, mtim: types::Timestamp, fst_flags: types::Fstflags
        ) -> ();
        async fn path_link(
            src_fd: types::Fd, src_flags: types::Lookupflags, src_path: GuestPtr<str>,
            target_fd: types::Fd, target_path: GuestPtr<str>
        ) -> ();
        async fn path_open(
            dirfd: types::Fd, dirflags: types::Lookupflags, path: GuestPtr<str>, oflags: types::Oflags,
            base: types::Rights, inheriting: types::Rights, fdflags: types::Fdflags
        ) -> types::Fd;
        async fn path_readlink(
            dirfd: types::Fd, path: GuestPtr<str>, buf: GuestPtr<u8>, buf_len: types::Size
        ) -> types::Size;
        async fn path_remove_directory(dirfd: types::Fd, path: GuestPtr<str>) -> ();
        async fn path_rename(
            src_fd: types::Fd, src_path: GuestPtr<str>, dest_fd: types::Fd, dest_path: GuestPtr<str>
        ) -> ();
        async fn path_symlink(src_path: GuestPtr<str>, dirfd: types::Fd, dest_path: GuestPtr<str>) -> ();
        async fn path_unlink_file(dirfd: types::Fd, path: GuestPtr<str>) -> ();
    }

    with_buffers! {
        async fn fd_read(types::IovecArray);
        async fn fd_pread(types::IovecArray, offset);
        async fn fd_write(types::CiovecArray);
        async fn fd_pwrite(types::CiovecArray, offset);
    }

    fn set_hostcall_fuel(&mut self, fuel: usize) {
        WasiSnapshotPreview1::set_hostcall_fuel(self, fuel);
    }

    /// The successor's call reads subscriptions from the guest's memory, where they are smaller: they are put there for as
    /// long as the call takes.
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
        let own = subs.as_array(nsubscriptions);
        let converted = subs.cast::<successor::Subscription>().as_array(nsubscriptions);
        let mut kept = Vec::new();
        // In this order: what is written reaches no further than what was read.
        for (slot, smaller) in own.iter().zip(converted.iter()) {
            let subscription = memory.read(slot?)?;
            kept.push(subscription.clone());
            let u = match subscription.u {
                types::SubscriptionU::Clock(clock) => successor::SubscriptionU::Clock(clock.into()),
                types::SubscriptionU::FdRead(file) => successor::SubscriptionU::FdRead(file.into()),
                types::SubscriptionU::FdWrite(file) => successor::SubscriptionU::FdWrite(file.into()),
            };
            memory.write(smaller?, successor::Subscription { userdata: subscription.userdata, u })?;
        }
        let (subs, events) = (subs.cast(), events.cast());
        let happened = WasiSnapshotPreview1::poll_oneoff(self, memory, subs, events, nsubscriptions).await;
        for (subscription, slot) in kept.into_iter().zip(own.iter()) {
            memory.write(slot?, subscription)?;
        }
        Ok(happened?)
    }

    fn proc_exit(&mut self, memory: &mut GuestMemory<'_>, status: types::Exitcode) -> wasmtime::Error {
        WasiSnapshotPreview1::proc_exit(self, memory, status)
    }

    fn sock_recv(
        &mut self,
        _memory: &mut GuestMemory<'_>,
        _fd: types::Fd,
        _ri_data: types::IovecArray,
        _ri_flags: types::Riflags,
    ) -> Result<(types::Size, types::Roflags), types::Error> {
        Err(types::Errno::Notsock.into())
    }

    fn sock_send(
        &mut self,
        _memory: &mut GuestMemory<'_>,
        _fd: types::Fd,
        _si_data: types::CiovecArray,
        _si_flags: types::Siflags,
    ) -> Result<types::Size, types::Error> {
        Err(types::Errno::Notsock.into())
    }

    fn sock_shutdown(
        &mut self,
        _memory: &mut GuestMemory<'_>,
        _fd: types::Fd,
        _how: types::Sdflags,
    ) -> Result<(), types::Error> {
        Err(types::Errno::Notsock.into())
    }
}

//! WASI 0.2's files for components: Wasmtime's own, with a check before what it does not check itself, by
//! [`Descriptors`]; and its polling, within bounds.

use mentat_manifest::FileAccess;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{self, HostDescriptor, HostDirectoryEntryStream};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types as filesystem_types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, FsError, FsResult};
use wasmtime_wasi_io::bindings::wasi::io::poll;

use super::budget::Sleep;
use super::context::HostContext;
use super::descriptors::{Descriptors, Refusal};
use super::file_streams::{HeldStream, MeteredStream};
use super::paths::LastLink;
use super::volumes::ENTRY_BYTES;
use crate::model::HostCallKind;

/// Pollables that a guest waits for in one call; it can have no more of them alive than `context::MAX_RESOURCES`.
const MAX_POLLABLES: usize = 4096;

/// Files of one component, while a call looks at them.
pub(crate) struct GuardedFiles<'a> {
    wasi: WasiFilesystemCtxView<'a>,
    files: &'a mut Descriptors,
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = GuardedFiles<'a>;
}

/// Polling of one component, while a call waits.
pub(crate) struct BoundedPolling<'a> {
    table: &'a mut ResourceTable,
    sleep: &'a mut Sleep,
}

struct HasPolling;

impl HasData for HasPolling {
    type Data<'a> = BoundedPolling<'a>;
}

/// Puts the checked files, and the bounded polling, in the place of Wasmtime's own.
pub(crate) fn add_to_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    poll::add_to_linker::<_, HasPolling>(linker, HostContext::polling)?;
    preopens::add_to_linker::<_, HasFiles>(linker, HostContext::files)?;
    filesystem_types::add_to_linker::<_, HasFiles>(linker, HostContext::files)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl HostContext {
    fn files(&mut self) -> GuardedFiles<'_> {
        self.calls.count(HostCallKind::WasiFiles);
        let preview2 = self.preview2();
        let wasi = WasiFilesystemCtxView { ctx: preview2.context.filesystem(), table: &mut preview2.table };
        GuardedFiles { wasi, files: &mut preview2.files }
    }

    fn polling(&mut self) -> BoundedPolling<'_> {
        self.calls.count(HostCallKind::WasiPoll);
        let preview2 = self.preview2();
        BoundedPolling { table: &mut preview2.table, sleep: &mut preview2.sleep }
    }
}

impl GuardedFiles<'_> {
    /// Puts a metered stream in the place of a plain one.
    fn metered(
        &mut self,
        stream: Resource<DynOutputStream>,
        file: u32,
    ) -> FsResult<Resource<DynOutputStream>> {
        let (Some(quota), Some(place)) = (self.files.quota(file), self.files.place(file)) else {
            return Ok(stream);
        };
        let stream = self.wasi.table.delete(stream)?;
        let metered: DynOutputStream = Box::new(MeteredStream { stream, quota, _place: place });
        Ok(self.wasi.table.push(metered)?)
    }
}

fn last_link(flags: types::PathFlags) -> LastLink {
    if flags.contains(types::PathFlags::SYMLINK_FOLLOW) { LastLink::Follow } else { LastLink::Keep }
}

/// What will be possible with what is opened so. What is not opened for writing Wasmtime opens for reading, whatever was
/// asked for.
fn wanted(open: types::OpenFlags, flags: types::DescriptorFlags) -> FileAccess {
    let writes = flags.contains(types::DescriptorFlags::WRITE);
    let changes = writes
        || open.intersects(types::OpenFlags::CREATE | types::OpenFlags::TRUNCATE)
        || flags.contains(types::DescriptorFlags::MUTATE_DIRECTORY);
    match (flags.contains(types::DescriptorFlags::READ) || !writes, changes) {
        (true, true) => FileAccess::ReadWrite,
        (true, false) => FileAccess::Read,
        (false, _) => FileAccess::Write,
    }
}

impl From<Refusal> for FsError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Denied => types::ErrorCode::Access,
            // There is no code for too many files; this is the one that programs give up on.
            Refusal::TooMany => types::ErrorCode::InsufficientMemory,
            Refusal::Full => types::ErrorCode::InsufficientSpace,
            Refusal::TooLarge => types::ErrorCode::Overflow,
            Refusal::TooLong => types::ErrorCode::NameTooLong,
        };
        code.into()
    }
}

impl poll::Host for BoundedPolling<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        if pollables.len() > MAX_POLLABLES {
            let count = pollables.len();
            return Err(wasmtime::Error::msg(format!(
                "{count} pollables in one call, the limit is {MAX_POLLABLES}"
            )));
        }
        self.sleep.through(self.table.poll(pollables)).await?
    }
}

impl poll::HostPollable for BoundedPolling<'_> {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.sleep.through(self.table.block(pollable)).await?
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.table.ready(pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, pollable)
    }
}

impl preopens::Host for GuardedFiles<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let directories = preopens::Host::get_directories(&mut self.wasi)?;
        for (volume, (directory, _)) in directories.iter().enumerate() {
            self.files.opened_root(directory.rep(), volume);
        }
        Ok(directories)
    }
}

impl types::Host for GuardedFiles<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        self.wasi.filesystem_error_code(error)
    }
}

impl HostDirectoryEntryStream for GuardedFiles<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.wasi.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.wasi, stream)
    }
}

impl HostDescriptor for GuardedFiles<'_> {
    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: types::Filesize,
        len: types::Filesize,
        advice: types::Advice,
    ) -> FsResult<()> {
        self.wasi.advise(fd, offset, len, advice).await
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.wasi.sync_data(fd).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorFlags> {
        self.wasi.get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorType> {
        self.wasi.get_type(fd).await
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: types::Filesize) -> FsResult<()> {
        let before = self.wasi.stat(Resource::new_borrow(fd.rep())).await?.size;
        let (file, grown) = (fd.rep(), size.saturating_sub(before));
        self.files.take(file, grown)?;
        let done = self.wasi.set_size(fd, size).await;
        if done.is_err() {
            self.files.give_back(file, grown);
        }
        done
    }

    async fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        atim: types::NewTimestamp,
        mtim: types::NewTimestamp,
    ) -> FsResult<()> {
        self.files.check_open(fd.rep(), FileAccess::Write).await?;
        self.wasi.set_times(fd, atim, mtim).await
    }

    async fn read(
        &mut self,
        fd: Resource<Descriptor>,
        len: types::Filesize,
        offset: types::Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.wasi.read(fd, len, offset).await
    }

    async fn write(
        &mut self,
        fd: Resource<Descriptor>,
        buf: Vec<u8>,
        offset: types::Filesize,
    ) -> FsResult<types::Filesize> {
        let file = fd.rep();
        let size = if self.files.goes_on(file, offset) {
            offset
        } else {
            self.wasi.stat(Resource::new_borrow(file)).await?.size
        };
        let writing = self.files.take_write(file, size, offset, buf.len() as u64)?;
        let written = self.wasi.write(fd, buf, offset).await;
        self.files.wrote(file, writing, written.as_ref().ok().copied());
        written
    }

    async fn read_directory(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        self.files.check_list(fd.rep()).await?;
        self.wasi.read_directory(fd).await
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.wasi.sync(fd).await
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.files.check_new(fd.rep(), &path).await?;
        self.wasi.create_directory_at(fd, path).await
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<types::DescriptorStat> {
        self.wasi.stat(fd).await
    }

    async fn stat_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        self.files.check(fd.rep(), &path, last_link(path_flags), FileAccess::Read).await?;
        self.wasi.stat_at(fd, path_flags, path).await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        atim: types::NewTimestamp,
        mtim: types::NewTimestamp,
    ) -> FsResult<()> {
        self.files.check(fd.rep(), &path, last_link(path_flags), FileAccess::Write).await?;
        self.wasi.set_times_at(fd, path_flags, path, atim, mtim).await
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_path_flags: types::PathFlags,
        old_path: String,
        new_descriptor: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.files.check_between(fd.rep(), new_descriptor.rep())?;
        self.files.check_moved(fd.rep(), &old_path).await?;
        self.files.check_moved(new_descriptor.rep(), &new_path).await?;
        self.files.check_new(new_descriptor.rep(), &new_path).await?;
        self.wasi.link_at(fd, old_path_flags, old_path, new_descriptor, new_path).await
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        oflags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        self.files.check_room()?;
        let access = wanted(oflags, flags);
        let checked = self.files.check_opened(fd.rep(), &path, last_link(path_flags), access).await?;
        let (directory, made) =
            (fd.rep(), if oflags.contains(types::OpenFlags::CREATE) { ENTRY_BYTES } else { 0 });
        self.files.take(directory, made)?;
        let opened = self.wasi.open_at(fd, path_flags, path, oflags, flags).await;
        match &opened {
            Ok(descriptor) => self.files.opened(descriptor.rep(), checked),
            Err(_) => self.files.give_back(directory, made),
        }
        opened
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.files.closed(fd.rep());
        HostDescriptor::drop(&mut self.wasi, fd)
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.files.check(fd.rep(), &path, LastLink::Keep, FileAccess::Read).await?;
        self.wasi.readlink_at(fd, path).await
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.files.check(fd.rep(), &path, LastLink::Keep, FileAccess::Write).await?;
        self.wasi.remove_directory_at(fd, path).await
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.files.check_between(fd.rep(), new_fd.rep())?;
        self.files.check_moved(fd.rep(), &old_path).await?;
        self.files.check_moved(new_fd.rep(), &new_path).await?;
        self.wasi.rename_at(fd, old_path, new_fd, new_path).await
    }

    async fn symlink_at(
        &mut self,
        fd: Resource<Descriptor>,
        src_path: String,
        dest_path: String,
    ) -> FsResult<()> {
        self.files.check_link(fd.rep(), &dest_path).await?;
        self.wasi.symlink_at(fd, src_path, dest_path).await
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.files.check(fd.rep(), &path, LastLink::Keep, FileAccess::Write).await?;
        self.wasi.unlink_file_at(fd, path).await
    }

    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: types::Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let place = self.files.place(fd.rep());
        let stream = self.wasi.read_via_stream(fd, offset)?;
        let Some(place) = place else { return Ok(stream) };
        let stream = self.wasi.table.delete(stream)?;
        let held: DynInputStream = Box::new(HeldStream { stream, _place: place });
        Ok(self.wasi.table.push(held)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: types::Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let file = fd.rep();
        // The system answers this out of its memory.
        let size = match self.wasi.table.get(&fd)? {
            Descriptor::File(file) => file.file.metadata().map_or(0, |metadata| metadata.len()),
            Descriptor::Dir(_) => 0,
        };
        let stream = self.wasi.write_via_stream(fd, offset)?;
        if let Err(refusal) = self.files.take(file, offset.saturating_sub(size)) {
            drop(self.wasi.table.delete(stream)?);
            return Err(refusal.into());
        }
        self.metered(stream, file)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let file = fd.rep();
        let stream = self.wasi.append_via_stream(fd)?;
        self.metered(stream, file)
    }

    async fn is_same_object(
        &mut self,
        a: Resource<Descriptor>,
        b: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        self.wasi.is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<types::MetadataHashValue> {
        self.wasi.metadata_hash(fd).await
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        self.files.check(fd.rep(), &path, last_link(path_flags), FileAccess::Read).await?;
        self.wasi.metadata_hash_at(fd, path_flags, path).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_opened_for_writing_is_opened_for_reading() {
        use types::{DescriptorFlags as Flags, OpenFlags as Open};
        for (open, flags, access) in [
            (Open::empty(), Flags::empty(), FileAccess::Read),
            (Open::empty(), Flags::READ, FileAccess::Read),
            (Open::empty(), Flags::WRITE, FileAccess::Write),
            (Open::CREATE, Flags::WRITE, FileAccess::Write),
            (Open::CREATE, Flags::empty(), FileAccess::ReadWrite),
            (Open::TRUNCATE, Flags::empty(), FileAccess::ReadWrite),
            (Open::CREATE, Flags::READ, FileAccess::ReadWrite),
            (Open::empty(), Flags::READ | Flags::WRITE, FileAccess::ReadWrite),
            (Open::DIRECTORY, Flags::MUTATE_DIRECTORY, FileAccess::ReadWrite),
        ] {
            assert_eq!(wanted(open, flags), access, "{open:?} {flags:?}");
        }
    }
}

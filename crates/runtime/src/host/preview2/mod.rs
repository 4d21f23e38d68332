//! WASI 0.2's files for components: Wasmtime's own, with a check before what it does not check itself, by
//! [`Descriptors`]. What makes a directory larger or smaller is counted against its quota: what is there is measured while
//! nobody else changes the directory.

mod arguments;
mod counted;

use mentat_manifest::FileAccess;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{self, HostDescriptor, HostDirectoryEntryStream};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types as filesystem_types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use self::arguments::{last_link, wanted};
use self::counted::again;
use super::context::HostContext;
use super::descriptors::Descriptors;
use super::file_streams::{Place, Reading};
use super::paths::LastLink;
use super::quota::FileId;
use super::uninterrupted::uninterrupted;
use crate::model::HostCallKind;

/// Files of one component, while a call looks at them.
pub(crate) struct GuardedFiles<'a> {
    wasi: WasiFilesystemCtxView<'a>,
    files: &'a mut Descriptors,
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = GuardedFiles<'a>;
}

/// Puts the checked files in the place of Wasmtime's own.
pub(crate) fn add_to_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
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
        let listing = stream.rep();
        HostDirectoryEntryStream::drop(&mut self.wasi, stream)?;
        self.files.unlisted(listing);
        Ok(())
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
        let turn = self.files.turn(fd.rep()).await;
        if !turn.counts() {
            return self.wasi.set_size(fd, size).await;
        }
        let before = self.facts(&turn, &fd).await.ok_or(types::ErrorCode::Io)?;
        let grown = before.growth_to(size);
        if let Err(full) = turn.grow(before.id, grown) {
            return if self.is_writable(&fd).await {
                Err(full.into())
            } else {
                self.wasi.set_size(fd, size).await
            };
        }
        let done = uninterrupted(self.wasi.set_size(fd, size)).await;
        turn.shrink(before.id, if done.is_ok() { before.size.saturating_sub(size) } else { grown });
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
        let turn = self.files.turn(fd.rep()).await;
        if !turn.counts() {
            return self.wasi.write(fd, buf, offset).await;
        }
        let before = self.facts(&turn, &fd).await.ok_or(types::ErrorCode::Io)?;
        let taken = before.growth(offset, buf.len() as u64);
        if let Err(full) = turn.grow(before.id, taken) {
            return if self.is_writable(&fd).await {
                Err(full.into())
            } else {
                self.wasi.write(fd, buf, offset).await
            };
        }
        let written = uninterrupted(self.wasi.write(fd, buf, offset)).await;
        let used = written.as_ref().map_or(0, |written| before.growth(offset, *written));
        turn.shrink(before.id, taken.saturating_sub(used));
        written
    }

    async fn read_directory(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        // What is no directory Wasmtime refuses by itself.
        if matches!(self.wasi.table.get(&fd)?, Descriptor::Dir(_)) {
            self.files.check_room()?;
            let id = FileId(self.wasi.metadata_hash(again(&fd)).await?.lower);
            self.files.check_list(fd.rep(), id).await?;
        }
        let listing = self.wasi.read_directory(fd).await?;
        self.files.listed(listing.rep());
        Ok(listing)
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.wasi.sync(fd).await
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let turn = self.files.turn(fd.rep()).await;
        self.files.check(fd.rep(), &path, LastLink::Keep, FileAccess::Write).await?;
        turn.take_name()?;
        let made = uninterrupted(self.wasi.create_directory_at(again(&fd), path.clone())).await;
        let made = self.contained(made, fd.rep(), &path, LastLink::Keep, FileAccess::Write).await;
        self.named(&turn, &fd, &path, &made).await;
        made
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
        let found = self.wasi.stat_at(again(&fd), path_flags, path.clone()).await;
        self.contained(found, fd.rep(), &path, last_link(path_flags), FileAccess::Read).await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        atim: types::NewTimestamp,
        mtim: types::NewTimestamp,
    ) -> FsResult<()> {
        // Wasmtime opens it for this.
        let _turn = self.files.turn(fd.rep()).await;
        self.files.check(fd.rep(), &path, last_link(path_flags), FileAccess::Write).await?;
        self.look_before_opening(&fd, path_flags, &path, FileAccess::Write).await?;
        let setting = self.wasi.set_times_at(again(&fd), path_flags, path.clone(), atim, mtim);
        let set = uninterrupted(setting).await;
        self.contained(set, fd.rep(), &path, last_link(path_flags), FileAccess::Write).await
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
        let turn = self.files.turn(new_descriptor.rep()).await;
        self.files.check_moved((fd.rep(), &old_path), (new_descriptor.rep(), &new_path)).await?;
        turn.take_name()?;
        let (target, name) = (again(&new_descriptor), new_path.clone());
        let linking = self.wasi.link_at(again(&fd), old_path_flags, old_path.clone(), target, name);
        let made = uninterrupted(linking).await;
        let last = last_link(old_path_flags);
        let made = self.contained(made, fd.rep(), &old_path, last, FileAccess::Write).await;
        let made =
            self.contained(made, new_descriptor.rep(), &new_path, LastLink::Keep, FileAccess::Write).await;
        self.named(&turn, &new_descriptor, &new_path, &made).await;
        made
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
        let (directory, access) = (fd.rep(), wanted(oflags, flags));
        // Whoever has the turn finds what was checked.
        let turn = self.files.turn(directory).await;
        let checked = self.files.check(directory, &path, last_link(path_flags), access).await?;
        self.look_before_opening(&fd, path_flags, &path, access).await?;
        let mut before = None;
        if oflags.intersects(types::OpenFlags::CREATE | types::OpenFlags::TRUNCATE) {
            before = self.facts_at(&turn, &fd, path_flags, &path).await;
        }
        let is_new = oflags.contains(types::OpenFlags::CREATE) && before.is_none();
        if is_new {
            turn.take_name()?;
        }
        let opening = self.wasi.open_at(fd, path_flags, path.clone(), oflags, flags);
        let opened = uninterrupted(opening).await;
        let opened = self.contained(opened, directory, &path, last_link(path_flags), access).await;
        let Ok(descriptor) = opened else {
            if is_new {
                turn.name_not_made();
            }
            return opened;
        };
        let now = self.facts(&turn, &descriptor).await;
        if is_new {
            turn.name_made(now.map(|now| now.id));
        }
        if turn.counts() && now.is_none() {
            // What cannot be counted is not held either.
            HostDescriptor::drop(&mut self.wasi, descriptor).map_err(FsError::trap)?;
            return Err(types::ErrorCode::Io.into());
        }
        if let (Some(before), Some(now)) = (before, now)
            && before.id == now.id
        {
            turn.shrink(now.id, before.size.saturating_sub(now.size));
        }
        self.files.opened(descriptor.rep(), checked, now.and_then(|now| turn.hold(now.id)));
        Ok(descriptor)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        let descriptor = fd.rep();
        HostDescriptor::drop(&mut self.wasi, fd)?;
        self.files.closed(descriptor);
        Ok(())
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.files.check(fd.rep(), &path, LastLink::Keep, FileAccess::Read).await?;
        let read = self.wasi.readlink_at(again(&fd), path.clone()).await;
        self.contained(read, fd.rep(), &path, LastLink::Keep, FileAccess::Read).await
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let turn = self.files.turn(fd.rep()).await;
        self.files.check(fd.rep(), &path, LastLink::Keep, FileAccess::Write).await?;
        let before = self.facts_at(&turn, &fd, types::PathFlags::empty(), &path).await;
        let removed = uninterrupted(self.wasi.remove_directory_at(again(&fd), path.clone())).await;
        self.contained(removed, fd.rep(), &path, LastLink::Keep, FileAccess::Write).await?;
        before.iter().for_each(|before| turn.removed(before));
        Ok(())
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        self.files.check_between(fd.rep(), new_fd.rep())?;
        let turn = self.files.turn(new_fd.rep()).await;
        self.files.check_moved((fd.rep(), &old_path), (new_fd.rep(), &new_path)).await?;
        let moved = self.facts_at(&turn, &fd, types::PathFlags::empty(), &old_path).await;
        let replaced = self.facts_at(&turn, &new_fd, types::PathFlags::empty(), &new_path).await;
        let (source, target) = (again(&fd), again(&new_fd));
        let renaming = self.wasi.rename_at(source, old_path.clone(), target, new_path.clone());
        let renamed = uninterrupted(renaming).await;
        let renamed = self.contained(renamed, fd.rep(), &old_path, LastLink::Keep, FileAccess::Write).await;
        self.contained(renamed, new_fd.rep(), &new_path, LastLink::Keep, FileAccess::Write).await?;
        turn.replaced(moved, replaced);
        Ok(())
    }

    async fn symlink_at(
        &mut self,
        fd: Resource<Descriptor>,
        src_path: String,
        dest_path: String,
    ) -> FsResult<()> {
        let turn = self.files.turn(fd.rep()).await;
        self.files.check_link(fd.rep(), &dest_path).await?;
        turn.take_name()?;
        let made = uninterrupted(self.wasi.symlink_at(again(&fd), src_path, dest_path.clone())).await;
        let made = self.contained(made, fd.rep(), &dest_path, LastLink::Keep, FileAccess::Write).await;
        self.named(&turn, &fd, &dest_path, &made).await;
        made
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let turn = self.files.turn(fd.rep()).await;
        self.files.check(fd.rep(), &path, LastLink::Keep, FileAccess::Write).await?;
        let before = self.facts_at(&turn, &fd, types::PathFlags::empty(), &path).await;
        let removed = uninterrupted(self.wasi.unlink_file_at(again(&fd), path.clone())).await;
        self.contained(removed, fd.rep(), &path, LastLink::Keep, FileAccess::Write).await?;
        before.iter().for_each(|before| turn.removed(before));
        Ok(())
    }

    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: types::Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let kept = self.files.kept(fd.rep());
        let stream = self.wasi.read_via_stream(fd, offset)?;
        let Some(kept) = kept else { return Ok(stream) };
        let stream = self.wasi.table.delete(stream)?;
        let reading: DynInputStream = Box::new(Reading { stream, _kept: kept });
        Ok(self.wasi.table.push(reading)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: types::Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi.write_via_stream(again(&fd), offset)?;
        self.counted(&fd, stream, Place::At(offset))
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.wasi.append_via_stream(again(&fd))?;
        self.counted(&fd, stream, Place::End)
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
        let found = self.wasi.metadata_hash_at(again(&fd), path_flags, path.clone()).await;
        self.contained(found, fd.rep(), &path, last_link(path_flags), FileAccess::Read).await
    }
}

//! What guests pass to the calls of WASI 0.1, in the words of the checks, and refusals in the words of WASI. Reads guest
//! memory within bounds; does nothing.

use mentat_manifest::FileAccess;
use wasmtime_wasi::p1::types;
use wiggle::{GuestMemory, GuestPtr};

use crate::host::descriptors::{MAX_PATH_BYTES, Refusal};
use crate::host::paths::LastLink;
use crate::host::quota::{Facts, FileId, Full};

/// Buffers of one write to a file at most, as on Linux.
const MAX_BUFFERS: u32 = 1024;
/// Subscriptions of one poll at most; each is a timer or a waiter of the host's.
pub(crate) const MAX_SUBSCRIPTIONS: u32 = 4096;

/// A path that the guest passes.
pub(super) fn text(memory: &GuestMemory<'_>, path: GuestPtr<str>) -> Result<String, types::Error> {
    if usize::try_from(path.len()).map_or(true, |length| length > MAX_PATH_BYTES) {
        return Err(types::Errno::Nametoolong.into());
    }
    Ok(memory.as_cow_str(path)?.into_owned())
}

/// Bytes that a write will write: Wasmtime's takes the first buffer that has any.
pub(super) fn first_length(
    memory: &GuestMemory<'_>,
    buffers: types::CiovecArray,
) -> Result<u64, types::Error> {
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

pub(super) fn last_link(flags: types::Lookupflags) -> LastLink {
    if flags.contains(types::Lookupflags::SYMLINK_FOLLOW) { LastLink::Follow } else { LastLink::Keep }
}

/// What will be possible with what is opened so. What is not opened for writing Wasmtime opens for reading, whatever was
/// asked for.
pub(super) fn wanted(flags: types::Oflags, rights: types::Rights) -> FileAccess {
    let writes = rights.contains(types::Rights::FD_WRITE);
    let changes = writes || flags.intersects(types::Oflags::CREAT | types::Oflags::TRUNC);
    match (rights.contains(types::Rights::FD_READ) || !writes, changes) {
        (true, true) => FileAccess::ReadWrite,
        (true, false) => FileAccess::Read,
        (false, _) => FileAccess::Write,
    }
}

/// A file as it is counted.
pub(super) fn facts(stat: &types::Filestat) -> Facts {
    let names = if stat.filetype == types::Filetype::Directory { 1 } else { stat.nlink };
    Facts { id: FileId(stat.ino), size: stat.size, names }
}

impl From<Refusal> for types::Error {
    fn from(refusal: Refusal) -> Self {
        let errno = match refusal {
            Refusal::Denied => types::Errno::Acces,
            Refusal::Loop => types::Errno::Loop,
            Refusal::TooMany => types::Errno::Mfile,
            Refusal::TooLarge => types::Errno::Overflow,
            Refusal::TooLong => types::Errno::Nametoolong,
            Refusal::Across => types::Errno::Xdev,
        };
        errno.into()
    }
}

impl From<Full> for types::Error {
    fn from(_: Full) -> Self {
        types::Errno::Nospc.into()
    }
}

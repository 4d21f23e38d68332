//! What components pass to the calls of WASI 0.2, in the words of the checks, and refusals in the words of WASI. Does
//! nothing.

use mentat_manifest::FileAccess;
use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::filesystem::types;

use crate::host::descriptors::Refusal;
use crate::host::paths::LastLink;
use crate::host::quota::{Facts, FileId, Full};

/// A file as it is counted.
pub(super) fn facts(stat: &types::DescriptorStat, hash: &types::MetadataHashValue) -> Facts {
    let names = if stat.type_ == types::DescriptorType::Directory { 1 } else { stat.link_count };
    Facts { id: FileId(hash.lower), size: stat.size, names }
}

pub(super) fn last_link(flags: types::PathFlags) -> LastLink {
    if flags.contains(types::PathFlags::SYMLINK_FOLLOW) { LastLink::Follow } else { LastLink::Keep }
}

/// What will be possible with what is opened so. What is not opened for writing Wasmtime opens for reading, whatever was
/// asked for.
pub(super) fn wanted(open: types::OpenFlags, flags: types::DescriptorFlags) -> FileAccess {
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
            Refusal::Loop => types::ErrorCode::Loop,
            // There is no code for too many files; this is the one that programs give up on.
            Refusal::TooMany => types::ErrorCode::InsufficientMemory,
            Refusal::TooLarge => types::ErrorCode::Overflow,
            Refusal::TooLong => types::ErrorCode::NameTooLong,
            Refusal::Across => types::ErrorCode::CrossDevice,
        };
        code.into()
    }
}

impl From<Full> for FsError {
    fn from(_: Full) -> Self {
        types::ErrorCode::InsufficientSpace.into()
    }
}

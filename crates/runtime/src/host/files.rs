//! Files by a grant: read, write, append, list, stat and remove, on what a `filesystem` capability covers. The work is
//! done on a blocking thread, inside the directory that the permission opened.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cap_std::fs::{Dir, File, FileType, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use mentat_manifest::{Capability, FileAccess};
use serde::Deserialize;
use serde_json::{Value, json};

use super::abi::AbiError;
use super::capabilities::{CallError, OTHER_GRANT, arguments};
use super::context::HostContext;
use super::descriptors::{LEADS_OUT, NOT_FOR_THIS};
use super::gate::Gate;
use super::paths::{self, Astray, LastLink};
use super::quota::{Facts, FileId, Full, Turn};
use super::volumes::{Location, VolumeError};
use crate::security::policy::Permission;

/// Bytes of one result at most; longer files are read in pieces.
const MAX_READ_BYTES: u64 = 16 << 20;
/// Entries of a directory that are listed; the host collects them before the guest gets them.
const MAX_ENTRIES: usize = 10_000;

/// What is to be done. Paths are guest paths; without one, the path of the grant is meant.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Arguments")]
enum Operation {
    Read { path: Option<String>, offset: u64, length: Option<u64> },
    Write { path: Option<String>, data: Option<String>, data_base64: Option<String> },
    Append { path: Option<String>, data: Option<String>, data_base64: Option<String> },
    List { path: Option<String> },
    Stat { path: Option<String> },
    Remove { path: Option<String> },
}

/// The arguments as they are written. Flat, so that none is kept before it is known to be one: a tagged enum would first
/// collect all that is there, at many times the size of its text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    op: Op,
    path: Option<String>,
    offset: Option<u64>,
    length: Option<u64>,
    data: Option<String>,
    data_base64: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Read,
    Write,
    Append,
    List,
    Stat,
    Remove,
}

/// Where content goes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is all that the file holds.
    Whole,
    /// Behind what it holds.
    End,
}

/// How much of the entries of a directory is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// All, as `stat` would.
    All,
    /// No more than is needed to ask for one of them: where each is decided on by itself, some may not be looked at.
    Names,
}

impl TryFrom<Arguments> for Operation {
    type Error = String;

    fn try_from(arguments: Arguments) -> Result<Self, String> {
        let Arguments { op, path, offset, length, data, data_base64 } = arguments;
        let reads = matches!(op, Op::Read);
        let writes = matches!(op, Op::Write | Op::Append);
        for (key, given, taken) in [
            ("offset", offset.is_some(), reads),
            ("length", length.is_some(), reads),
            ("data", data.is_some(), writes),
            ("data_base64", data_base64.is_some(), writes),
        ] {
            if given && !taken {
                return Err(format!("the operation has no `{key}`"));
            }
        }
        Ok(match op {
            Op::Read => Self::Read { path, offset: offset.unwrap_or(0), length },
            Op::Write => Self::Write { path, data, data_base64 },
            Op::Append => Self::Append { path, data, data_base64 },
            Op::List => Self::List { path },
            Op::Stat => Self::Stat { path },
            Op::Remove => Self::Remove { path },
        })
    }
}

/// Does one operation.
pub(crate) async fn invoke(
    context: &mut HostContext,
    permission: &Permission,
    bytes: &[u8],
) -> Result<Bytes, CallError> {
    let operation: Operation = arguments(bytes)?;
    let location = open(context, permission, &operation)?;
    // Before there is a thread for it: threads that wait for those who need one would wait for ever. And before it is seen
    // where links lead: whoever has the turn finds what was decided on.
    let turn = match &location.quota {
        Some(quota) => quota.turn().await,
        None => Turn::uncounted(),
    };
    let (location, turn) = follow(&context.gate, location, &operation, turn).await?;
    let listed = Capability::Filesystem { access: FileAccess::Read, path: location.path() };
    let detail = if context.gate.grant().decides_alike_below(&listed) { Detail::All } else { Detail::Names };
    tokio::task::spawn_blocking(move || operation.run(&location, turn, detail))
        .await
        .map_err(|error| CallError::new(AbiError::Unavailable, error.to_string()))?
}

/// The location that the operation is about: within the grant, and permitted by itself.
fn open(
    context: &mut HostContext,
    permission: &Permission,
    operation: &Operation,
) -> Result<Location, CallError> {
    let Capability::Filesystem { path: granted, .. } = permission.capability() else {
        return Err(CallError::malformed("the grant is for no files"));
    };
    let path = operation.path().unwrap_or(granted);
    let used: Capability = format!("filesystem:{}:{path}", operation.access().as_str())
        .parse()
        .map_err(|error: mentat_manifest::CapabilityError| CallError::malformed(error.to_string()))?;
    if !permission.capability().covers(&used) {
        // Its own message says for what.
        context.gate.refuse(&used, OTHER_GRANT);
        let message = format!("the grant is for `{}`, not for `{used}`", permission.capability());
        return Err(CallError::new(AbiError::Denied, message));
    }
    let permission =
        if used == *permission.capability() { permission.clone() } else { context.gate.decide(&used)? };
    let grant = context.gate.grant();
    let opened = context.volumes.open(&context.host, &permission, grant.offers(), grant.tenant());
    if let Err(VolumeError::Access { .. }) = &opened {
        // Its own message says more.
        context.gate.refuse(&used, NOT_FOR_THIS);
    }
    Ok(opened?)
}

/// Where links lead from there, which must be permitted by itself as well. They are followed on a thread that may wait.
async fn follow(
    gate: &Gate,
    location: Location,
    operation: &Operation,
    turn: Turn,
) -> Result<(Location, Turn), CallError> {
    let last = operation.last_link();
    let following = tokio::task::spawn_blocking(move || {
        let direct = paths::resolve(&location.directory, &location.below, last);
        (location, turn, direct)
    });
    let (location, turn, direct) =
        following.await.map_err(|error| CallError::new(AbiError::Unavailable, error.to_string()))?;
    let direct = match direct {
        Ok(direct) => direct,
        Err(error) => {
            if Astray::of(&error) == Astray::Outside {
                let asked = Capability::Filesystem { access: operation.access(), path: location.path() };
                gate.refuse(&asked, LEADS_OUT);
            }
            return Err(error.into());
        }
    };
    if direct != location.below {
        let there = format!(
            "filesystem:{}:{}",
            operation.access().as_str(),
            paths::join_guest(&location.guest, &direct)
        );
        let there = there.parse::<Capability>().map_err(|error| CallError::malformed(error.to_string()))?;
        gate.decide(&there)?;
    }
    Ok((Location { below: direct, ..location }, turn))
}

impl Operation {
    fn path(&self) -> Option<&str> {
        match self {
            Self::Read { path, .. }
            | Self::Write { path, .. }
            | Self::Append { path, .. }
            | Self::List { path }
            | Self::Stat { path }
            | Self::Remove { path } => path.as_deref(),
        }
    }

    fn access(&self) -> FileAccess {
        match self {
            Self::Read { .. } | Self::List { .. } | Self::Stat { .. } => FileAccess::Read,
            Self::Write { .. } | Self::Append { .. } | Self::Remove { .. } => FileAccess::Write,
        }
    }

    fn last_link(&self) -> LastLink {
        match self {
            Self::Stat { .. } | Self::Remove { .. } => LastLink::Keep,
            Self::Read { .. } | Self::List { .. } | Self::Write { .. } | Self::Append { .. } => {
                LastLink::Follow
            }
        }
    }

    fn run(&self, location: &Location, turn: Turn, detail: Detail) -> Result<Bytes, CallError> {
        let (directory, path) = (&location.directory, location.name());
        match self {
            Self::Read { offset, length, .. } => read(directory, path, *offset, *length, turn),
            Self::Write { data, data_base64, .. } => {
                let content = content(data.as_deref(), data_base64.as_deref())?;
                write(directory, path, Place::Whole, &content, &turn)
            }
            Self::Append { data, data_base64, .. } => {
                let content = content(data.as_deref(), data_base64.as_deref())?;
                write(directory, path, Place::End, &content, &turn)
            }
            Self::List { .. } => {
                let opened = directory.open_dir(path)?;
                // Nobody has to wait for what is only read.
                drop(turn);
                list(&opened, detail)
            }
            Self::Stat { .. } => Ok(told(&describe(&directory.symlink_metadata(path)?))),
            Self::Remove { .. } => remove(directory, path, &turn),
        }
    }
}

fn read(
    directory: &Dir,
    path: &Path,
    offset: u64,
    length: Option<u64>,
    turn: Turn,
) -> Result<Bytes, CallError> {
    let (mut file, metadata) = open_file(directory, path, OpenOptions::new().read(true))?;
    let _held = turn.hold(facts(&metadata).id);
    // Nobody has to wait for what is only read.
    drop(turn);
    let left = metadata.len().saturating_sub(offset);
    let wanted = length.unwrap_or(left).min(left);
    if wanted > MAX_READ_BYTES {
        let message = format!(
            "{wanted} bytes are too many for one call; read {MAX_READ_BYTES} at a time, by `offset` and `length`"
        );
        return Err(CallError::new(AbiError::TooLarge, message));
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut content = Vec::new();
    file.take(wanted).read_to_end(&mut content)?;
    Ok(content.into())
}

fn write(
    directory: &Dir,
    path: &Path,
    place: Place,
    content: &[u8],
    turn: &Turn,
) -> Result<Bytes, CallError> {
    let is_new = directory.metadata(path).is_err();
    if is_new {
        turn.take_name()?;
    }
    let mut options = OpenOptions::new();
    options.create(true).write(true).append(place == Place::End);
    let opened = open_file(directory, path, &mut options);
    let (mut file, before) = match opened {
        Ok((file, metadata)) => (file, facts(&metadata)),
        Err(error) => {
            if is_new {
                turn.name_not_made();
            }
            return Err(error);
        }
    };
    let size = match place {
        Place::Whole => content.len() as u64,
        Place::End => before.size.saturating_add(content.len() as u64),
    };
    // Before anything is changed: what there is no room for leaves what was there as it was.
    if let Err(full) = turn.grow(before.id, before.growth_to(size)) {
        if is_new {
            directory.remove_file(path)?;
            turn.name_not_made();
        }
        return Err(full.into());
    }
    if is_new {
        turn.name_made(Some(before.id));
    }
    let mut written = file.write_all(content);
    if place == Place::Whole && written.is_ok() {
        written = file.set_len(size);
    }
    let now = file.metadata().map_or(size.max(before.size), |now| now.len());
    // By as much as it did not grow, or became smaller.
    turn.shrink(before.id, size.max(before.size).saturating_sub(now));
    written?;
    Ok(told(&json!({ "written": content.len() })))
}

fn facts(metadata: &Metadata) -> Facts {
    let names = if metadata.is_dir() { 1 } else { metadata.nlink() };
    let id = FileId::of(metadata.dev(), metadata.ino());
    Facts { id, size: metadata.len(), names }
}

fn list(directory: &Dir, detail: Detail) -> Result<Bytes, CallError> {
    let mut entries = Vec::new();
    for entry in directory.entries()? {
        if entries.len() == MAX_ENTRIES {
            let message = format!("the directory has more than {MAX_ENTRIES} entries");
            return Err(CallError::new(AbiError::TooLarge, message));
        }
        let entry = entry?;
        let mut told = match detail {
            Detail::All => describe(&entry.metadata()?),
            Detail::Names => json!({ "type": kind(entry.file_type()?) }),
        };
        if let Some(fields) = told.as_object_mut() {
            fields.insert("name".into(), entry.file_name().to_string_lossy().into());
        }
        entries.push(told);
    }
    entries.sort_by(|one, other| one["name"].as_str().cmp(&other["name"].as_str()));
    Ok(told(&json!({ "entries": entries })))
}

fn remove(directory: &Dir, path: &Path, turn: &Turn) -> Result<Bytes, CallError> {
    let before = directory.symlink_metadata(path)?;
    if before.is_dir() {
        directory.remove_dir(path)?;
    } else {
        directory.remove_file(path)?;
    }
    turn.removed(&facts(&before));
    Ok(told(&json!({})))
}

/// Opens a regular file, and nothing that would keep its reader waiting.
fn open_file(directory: &Dir, path: &Path, options: &mut OpenOptions) -> Result<(File, Metadata), CallError> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = directory.open_with(path, options.custom_flags(flags))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(CallError::malformed(format!("`{}` is no file", path.display())));
    }
    Ok((file, metadata))
}

/// Bytes that a guest gives as text or as base64.
pub(super) fn content(data: Option<&str>, data_base64: Option<&str>) -> Result<Vec<u8>, CallError> {
    match (data, data_base64) {
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, Some(text)) => STANDARD
            .decode(text)
            .map_err(|error| CallError::malformed(format!("what is given in base64 is none: {error}"))),
        _ => Err(CallError::malformed("give the bytes once: as text, or in base64")),
    }
}

fn kind(file_type: FileType) -> &'static str {
    match file_type {
        kind if kind.is_dir() => "directory",
        kind if kind.is_file() => "file",
        kind if kind.is_symlink() => "link",
        _ => "other",
    }
}

fn describe(metadata: &Metadata) -> Value {
    let kind = kind(metadata.file_type());
    let modified = metadata.modified().ok().and_then(|time| {
        let since = time.into_std().duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    });
    json!({ "type": kind, "size": metadata.len(), "modified_ms": modified })
}

fn told(value: &Value) -> Bytes {
    value.to_string().into()
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => AbiError::NotFound,
            io::ErrorKind::PermissionDenied => AbiError::Denied,
            io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory => AbiError::Malformed,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AbiError::Exhausted,
            _ if Astray::of(&error) == Astray::Circles => AbiError::Malformed,
            _ => AbiError::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Full> for CallError {
    fn from(full: Full) -> Self {
        Self::new(AbiError::Exhausted, full.to_string())
    }
}

impl From<VolumeError> for CallError {
    fn from(error: VolumeError) -> Self {
        let code = match error {
            VolumeError::NoFiles(_) => AbiError::Malformed,
            VolumeError::NotMounted(_) => AbiError::NotFound,
            VolumeError::Access { .. } => AbiError::Denied,
            VolumeError::Broken { .. } => AbiError::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

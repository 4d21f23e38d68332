//! Media: what guests do with objects of the media store, whole or in parts. The core ABI, grants and components call the
//! same functions here; where objects are kept is for `store` to know.
//!
//! Invariant: every object that is read or stored was asked of the gate by its own name, with every way to ask for it.

mod component;
mod config;
mod core;
mod error;
mod names;
mod objects;
mod operations;
mod own;
mod referred;
mod s3;
mod shares;
mod stdin;
mod store;
mod uploads;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mentat_manifest::{ByteCount, Capability, MediaAccess};

pub(crate) use self::component::add_to_linker;
pub use self::config::{BucketConfig, BucketCredentials, MediaConfig, MediaPlace};
pub(crate) use self::core::{add_to_core_linker, let_results_wait};
use self::error::MediaError;
use self::names::{MediaType, Reference};
pub(crate) use self::objects::OpenObject;
pub(crate) use self::operations::invoke;
pub(crate) use self::own::{OwnObject, OwnUpload, to_begin, to_read};
pub(crate) use self::referred::{open_input, refers, store_output};
pub(crate) use self::stdin::ObjectStdin;
pub use self::store::MediaCounts;
pub(crate) use self::store::MediaStore;
use self::uploads::Upload;
use super::abi::AbiError;
use super::capabilities::{CallError, OTHER_GRANT};
use super::context::HostContext;
use super::gate::Gate;
use crate::security::policy::Permission;

/// Objects that one execution reads or stores in parts at one time; each holds a piece or a part in memory.
const MAX_OPEN: usize = 8;
/// Bytes of an object that are read in one call.
pub(crate) const MAX_READ_BYTES: u64 = 1 << 20;
/// How much more than copying it costs to fetch or to store something, and to compute its digest.
const DIGEST_COST: u64 = 16;

/// What one execution reads and stores in parts.
#[derive(Default)]
pub(crate) struct OpenMedia {
    last: u32,
    open: HashMap<u32, Opened>,
}

/// One object, and the grant that it is used by and ends with; none where it was opened by its name alone.
struct Opened {
    handle: Option<i32>,
    state: State,
}

enum State {
    Reading(Box<OpenObject>),
    Writing(Box<Upload>),
}

/// By which grant something is asked for, where it is by one: its handle, and what it permits.
#[derive(Clone, Copy)]
pub(crate) struct By<'a> {
    handle: i32,
    permission: &'a Permission,
}

impl OpenMedia {
    /// Ends those of a grant that is given back.
    pub(crate) fn release(&mut self, handle: i32) {
        self.open.retain(|_, opened| opened.handle != Some(handle));
    }

    /// Gives one up.
    pub(crate) fn close(&mut self, number: u32) {
        self.open.remove(&number);
    }

    fn put(&mut self, by: Option<By<'_>>, state: State) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.open.insert(self.last, Opened { handle: by.map(|by| by.handle), state });
        self.last
    }

    fn check_room(&self) -> Result<(), MediaError> {
        if self.open.len() < MAX_OPEN {
            return Ok(());
        }
        let message = format!("{MAX_OPEN} objects are open, which is the limit; close one first");
        Err(MediaError::TooMany(message))
    }

    /// Takes out what is asked for by the grant that opened it; another grant's stays.
    fn take(&mut self, by: Option<By<'_>>, number: u32) -> Result<State, MediaError> {
        let is_own = |opened: &Opened| opened.handle == by.map(|by| by.handle);
        match self.open.remove(&number) {
            Some(opened) if is_own(&opened) => Ok(opened.state),
            other => {
                if let Some(opened) = other {
                    self.open.insert(number, opened);
                }
                Err(MediaError::BadHandle)
            }
        }
    }

    fn put_back(&mut self, by: Option<By<'_>>, number: u32, state: State) {
        self.open.insert(number, Opened { handle: by.map(|by| by.handle), state });
    }

    /// An object that is being read.
    fn reading(&self, number: u32) -> Option<&OpenObject> {
        match &self.open.get(&number)?.state {
            State::Reading(object) => Some(object),
            State::Writing(_) => None,
        }
    }
}

fn store(context: &HostContext) -> Result<Arc<MediaStore>, MediaError> {
    context.host.media.clone().ok_or(MediaError::NoStore)
}

/// Asks for the object itself, whatever was granted before.
fn decide(gate: &Gate, by: Option<By<'_>>, asked: &Capability) -> Result<Permission, CallError> {
    if let Some(by) = by
        && !by.permission.capability().covers(asked)
    {
        // Its own message says for what.
        gate.refuse(asked, OTHER_GRANT);
        let message = format!("the grant is for `{}`, not for `{asked}`", by.permission.capability());
        return Err(CallError::new(AbiError::Denied, message));
    }
    gate.decide(asked).map_err(CallError::from)
}

/// Has the guest owe what was fetched for it, or stored.
fn owe(context: &mut HostContext, bytes: u64) {
    context.owed = context.owed.saturating_add(bytes.saturating_mul(DIGEST_COST));
}

/// Opens an object that a guest refers to.
pub(crate) async fn download(
    context: &mut HostContext,
    by: Option<By<'_>>,
    reference: &[u8],
) -> Result<OpenObject, CallError> {
    let (store, gate) = (store(context)?, Arc::clone(&context.gate));
    open_object(&store, gate.grant().tenant(), reference, |asked| decide(&gate, by, asked)).await
}

/// Opens an object of a tenant, if it is permitted.
async fn open_object(
    store: &Arc<MediaStore>,
    tenant: &str,
    reference: &[u8],
    decide: impl FnOnce(&Capability) -> Result<Permission, CallError>,
) -> Result<OpenObject, CallError> {
    let name = store.resolve(Reference::parse(reference)?, tenant)?;
    let permission = decide(&name.capability(MediaAccess::Read))?;
    Ok(store.open(&permission, tenant).await?)
}

/// Stores content of a media type; answers the reference.
pub(crate) async fn upload(
    context: &mut HostContext,
    content: &[u8],
    media_type: &[u8],
) -> Result<String, CallError> {
    let (store, gate) = (store(context)?, Arc::clone(&context.gate));
    store.check_size(content.len() as u64)?;
    owe(context, content.len() as u64);
    store_content(&store, gate.grant().tenant(), content, media_type, |asked| decide(&gate, None, asked))
        .await
}

/// Stores content for a tenant, if it is permitted; answers the reference.
async fn store_content(
    store: &Arc<MediaStore>,
    tenant: &str,
    content: &[u8],
    media_type: &[u8],
    decide: impl FnOnce(&Capability) -> Result<Permission, CallError>,
) -> Result<String, CallError> {
    let media_type = MediaType::parse(media_type)?;
    store.check_size(content.len() as u64)?;
    let name = uploads::name_of(content).await;
    let permission = decide(&name.capability(MediaAccess::Write))?;
    let mut upload = store.begin(&permission, tenant, media_type).await?;
    upload.write(content).await?;
    Ok(upload.finish(&permission).await?.reference())
}

/// Opens an object for reading in parts; answers its number.
pub(crate) async fn open(
    context: &mut HostContext,
    by: Option<By<'_>>,
    reference: &[u8],
) -> Result<u32, CallError> {
    context.media.check_room()?;
    let object = download(context, by, reference).await?;
    Ok(context.media.put(by, State::Reading(Box::new(object))))
}

/// Bytes of an open object from an offset on: as many as are asked for and may be read at once, as far as they are there.
pub(crate) async fn read(
    context: &mut HostContext,
    by: Option<By<'_>>,
    number: u32,
    offset: u64,
    length: u64,
) -> Result<Bytes, CallError> {
    let mut object = match context.media.take(by, number)? {
        State::Reading(object) => object,
        state @ State::Writing(_) => {
            context.media.put_back(by, number, state);
            return Err(CallError::malformed(
                "the object is being stored; it can be read when it is finished",
            ));
        }
    };
    let read = read_some(&mut object, offset, length.min(MAX_READ_BYTES)).await;
    owe(context, object.take_fetched());
    context.media.put_back(by, number, State::Reading(object));
    Ok(read?)
}

/// Fills memory from an offset of an object on, as far as that goes; answers how many bytes those were.
pub(crate) async fn fill(
    context: &mut HostContext,
    object: &mut OpenObject,
    offset: u64,
    target: &mut [u8],
) -> Result<usize, CallError> {
    let filled = object.fill(offset, target).await;
    owe(context, object.take_fetched());
    Ok(filled?)
}

/// All of an object.
pub(crate) async fn gather(
    context: &mut HostContext,
    mut object: OpenObject,
    limit: ByteCount,
) -> Result<Vec<u8>, CallError> {
    let gathered = object.gather(limit).await;
    owe(context, object.take_fetched());
    Ok(gathered?)
}

async fn read_some(object: &mut OpenObject, offset: u64, length: u64) -> Result<Bytes, MediaError> {
    let first = object.read(offset, length).await?;
    if first.is_empty() || first.len() as u64 == length {
        return Ok(first);
    }
    let mut all = BytesMut::from(first);
    while (all.len() as u64) < length {
        let read = all.len() as u64;
        let piece = object.read(offset.saturating_add(read), length - read).await?;
        if piece.is_empty() {
            break;
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// Begins to store an object whose content comes in parts; answers its number.
pub(crate) async fn begin(
    context: &mut HostContext,
    by: Option<By<'_>>,
    media_type: &[u8],
) -> Result<u32, CallError> {
    let (store, gate) = (store(context)?, Arc::clone(&context.gate));
    context.media.check_room()?;
    let media_type = MediaType::parse(media_type)?;
    // What it will be called nobody knows yet; it is asked for by its name when that is known.
    let permission = decide(&gate, by, &to_begin())?;
    let upload = store.begin(&permission, gate.grant().tenant(), media_type).await?;
    Ok(context.media.put(by, State::Writing(Box::new(upload))))
}

/// Takes a part of what is being stored. Where that fails, the upload is given up.
pub(crate) async fn write(
    context: &mut HostContext,
    by: Option<By<'_>>,
    number: u32,
    content: &[u8],
) -> Result<(), CallError> {
    let mut upload = take_upload(context, by, number)?;
    owe(context, content.len() as u64);
    upload.write(content).await?;
    context.media.put_back(by, number, State::Writing(upload));
    Ok(())
}

/// Makes what was handed over an object; answers the reference and the size.
pub(crate) async fn finish(
    context: &mut HostContext,
    by: Option<By<'_>>,
    number: u32,
) -> Result<(String, u64), CallError> {
    let upload = take_upload(context, by, number)?;
    let permission = decide(&context.gate, by, &upload.name().capability(MediaAccess::Write))?;
    let size = upload.size();
    Ok((upload.finish(&permission).await?.reference(), size))
}

fn take_upload(context: &mut HostContext, by: Option<By<'_>>, number: u32) -> Result<Box<Upload>, CallError> {
    match context.media.take(by, number)? {
        State::Writing(upload) => Ok(upload),
        state @ State::Reading(_) => {
            context.media.put_back(by, number, state);
            Err(CallError::malformed("the object is being read; `begin` begins a new one"))
        }
    }
}

impl fmt::Debug for OpenMedia {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OpenMedia").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

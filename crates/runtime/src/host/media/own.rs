//! Objects as those have them who call the service and are no agents: stored as they come, and read as they are taken.
//!
//! Invariant: as for agents, nothing is stored or read but for a `Permission` that names it.

use std::sync::Arc;

use bytes::Bytes;
use mentat_manifest::{Capability, MediaAccess};

use super::error::MediaError;
use super::names::{MediaType, Reference, UPLOADS};
use super::objects::OpenObject;
use super::store::MediaStore;
use super::uploads::Upload;
use crate::host::capabilities::CallError;
use crate::security::policy::Permission;

/// Bytes of an object that are read at once.
const PIECE_BYTES: u64 = 512 << 10;

/// What it takes to begin to store an object, whose name its content will tell.
pub(crate) fn to_begin() -> Capability {
    Capability::Media { access: MediaAccess::Write, prefix: UPLOADS.into() }
}

/// What it takes to read the object that a tenant refers to.
pub(crate) fn to_read(store: &MediaStore, tenant: &str, reference: &str) -> Result<Capability, CallError> {
    let name = store.resolve(Reference::parse(reference.as_bytes())?, tenant)?;
    Ok(name.capability(MediaAccess::Read))
}

/// An object that is being stored.
#[derive(Debug)]
pub(crate) struct OwnUpload(Upload);

/// An object that is being read, from its beginning to its end.
#[derive(Debug)]
pub(crate) struct OwnObject {
    object: OpenObject,
    offset: u64,
}

impl OwnUpload {
    /// Begins to store an object of a media type.
    pub(crate) async fn begin(
        store: &Arc<MediaStore>,
        permission: &Permission,
        tenant: &str,
        media_type: &str,
    ) -> Result<Self, CallError> {
        let media_type = MediaType::parse(media_type.as_bytes())?;
        Ok(Self(store.begin(permission, tenant, media_type).await?))
    }

    /// Takes more of the content.
    pub(crate) async fn write(&mut self, content: &[u8]) -> Result<(), CallError> {
        Ok(self.0.write(content).await?)
    }

    /// What it takes to make an object of what came so far.
    pub(crate) fn to_finish(&self) -> Capability {
        self.0.name().capability(MediaAccess::Write)
    }

    /// Makes it an object; answers the reference and the size.
    pub(crate) async fn finish(self, permission: &Permission) -> Result<(String, u64), CallError> {
        let size = self.0.size();
        Ok((self.0.finish(permission).await?.reference(), size))
    }
}

impl OwnObject {
    /// Opens an object; `None` where there is none.
    pub(crate) async fn open(
        store: &Arc<MediaStore>,
        permission: &Permission,
        tenant: &str,
    ) -> Result<Option<Self>, CallError> {
        match store.open(permission, tenant).await {
            Ok(object) => Ok(Some(Self { object, offset: 0 })),
            Err(MediaError::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn object(&self) -> &OpenObject {
        &self.object
    }

    /// The next piece; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Bytes, CallError> {
        let piece = self.object.read(self.offset, PIECE_BYTES).await?;
        self.offset = self.offset.saturating_add(piece.len() as u64);
        Ok(piece)
    }
}

//! Objects of the media store for those who call the service: what agents are to be given is stored here, and what they made
//! is fetched, without crossing an execution.
//!
//! Invariant: a `Permission` stands before each, as for agents.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mentat_manifest::Capability;

use super::Runtime;
use super::referred::told_to_caller;
use crate::error::Error;
use crate::host::media::{self, MediaStore, OwnObject, OwnUpload};
use crate::security::policy::Permission;

/// Objects of one tenant.
#[derive(Debug)]
pub struct TenantMedia {
    store: Arc<MediaStore>,
    tenant: Arc<str>,
}

/// An object that is being stored. Dropped before it is finished, it leaves nothing.
#[derive(Debug)]
pub struct NewObject(OwnUpload);

/// An object that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// What it is called from now on, `media://sha256/…`.
    pub reference: String,
    /// Its bytes.
    pub bytes: u64,
}

/// An object that is being read.
#[derive(Debug)]
pub struct StoredContent(OwnObject);

impl Runtime {
    /// The objects of a tenant.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where there is no media store.
    pub fn media_of(&self, tenant: &Arc<str>) -> Result<TenantMedia, Error> {
        let none = || Error::InvalidRequest { message: "there is no media store here".into() };
        let store = self.host.media.clone().ok_or_else(none)?;
        Ok(TenantMedia { store, tenant: Arc::clone(tenant) })
    }
}

impl TenantMedia {
    /// What it takes to [begin](Self::begin).
    #[must_use]
    pub fn to_begin() -> Capability {
        media::to_begin()
    }

    /// Begins to store an object of a media type (RFC 6838).
    ///
    /// # Errors
    /// `INVALID_REQUEST` for what is no media type; `OVERLOADED` for a store that does not answer.
    pub async fn begin(&self, permission: &Permission, media_type: &str) -> Result<NewObject, Error> {
        let begun = OwnUpload::begin(&self.store, permission, &self.tenant, media_type).await;
        begun.map(NewObject).map_err(told_to_caller)
    }

    /// What it takes to [open](Self::open) the object of that reference.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for what is no reference.
    pub fn to_open(&self, reference: &str) -> Result<Capability, Error> {
        media::to_read(&self.store, &self.tenant, reference).map_err(told_to_caller)
    }

    /// Opens the object that a permission is for; `None` where there is none.
    ///
    /// # Errors
    /// `OVERLOADED` for a store that does not answer.
    pub async fn open(&self, permission: &Permission) -> Result<Option<StoredContent>, Error> {
        let opened = OwnObject::open(&self.store, permission, &self.tenant).await;
        opened.map(|object| object.map(StoredContent)).map_err(told_to_caller)
    }
}

impl NewObject {
    /// Takes more of the content; what is held in memory is one part of 5 MiB.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for more than an object may have; `OVERLOADED` where the tenant has stored as much as it may, and for a
    /// store that does not answer.
    pub async fn write(&mut self, content: &[u8]) -> Result<(), Error> {
        self.0.write(content).await.map_err(told_to_caller)
    }

    /// What it takes to [finish](Self::finish) now.
    #[must_use]
    pub fn to_finish(&self) -> Capability {
        self.0.to_finish()
    }

    /// Makes it an object.
    ///
    /// # Errors
    /// `OVERLOADED` for a store that does not answer.
    pub async fn finish(self, permission: &Permission) -> Result<StoredObject, Error> {
        let (reference, bytes) = self.0.finish(permission).await.map_err(told_to_caller)?;
        Ok(StoredObject { reference, bytes })
    }
}

impl StoredContent {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.object().size()
    }

    /// What it is called.
    #[must_use]
    pub fn reference(&self) -> &str {
        self.0.object().reference()
    }

    /// Its media type; `application/octet-stream` where nobody said.
    #[must_use]
    pub fn media_type(&self) -> &str {
        self.0.object().media_type().as_str()
    }

    /// When it was stored.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        let milliseconds = u64::try_from(self.0.object().modified_ms()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    /// The next piece; nothing at the end. The last one of an object that is called by its digest comes when the whole was
    /// found to be what it is called.
    ///
    /// # Errors
    /// `OVERLOADED` for a store that does not answer, and for content that is damaged.
    pub async fn next(&mut self) -> Result<Bytes, Error> {
        self.0.next().await.map_err(told_to_caller)
    }
}

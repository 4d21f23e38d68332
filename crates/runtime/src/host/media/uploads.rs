//! Objects that are being stored: what the guest hands over is hashed and passed on in parts, and becomes an object at its
//! end, all at once.
//!
//! Invariant: at most one part is held in memory; an upload that is given up leaves nothing and takes no room.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mentat_manifest::MediaAccess;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, MultipartUpload, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::error::MediaError;
use super::names::{MediaType, ObjectName};
use super::shares::Taken;
use super::store::{MediaStore, Place, permitted};
use crate::security::policy::Permission;

/// Bytes of a part; S3 takes no smaller ones.
const PART_BYTES: usize = 5 << 20;
/// Bytes that are hashed and copied before others may run on the thread.
const SLICE_BYTES: usize = 256 << 10;
/// What a service copies within itself in a second, at the least.
const COPIED_PER_SECOND: u64 = 16 << 20;

/// An object that is being stored.
pub(crate) struct Upload {
    store: Arc<MediaStore>,
    place: Place,
    /// Where it was told before; else what is handed over is hashed.
    name: Option<ObjectName>,
    hash: Sha256,
    staged: Path,
    media_type: MediaType,
    size: u64,
    /// What is not yet a part.
    waiting: BytesMut,
    parts: Option<Parts>,
    share: Taken,
}

/// Parts that are with the store, and go when this is dropped.
struct Parts {
    upload: Option<Box<dyn MultipartUpload>>,
    store: Arc<MediaStore>,
    threads: Handle,
}

/// The name of content, computed so that others may run on the thread meanwhile.
pub(crate) async fn name_of(content: &[u8]) -> ObjectName {
    let mut hash = Sha256::new();
    for slice in content.chunks(SLICE_BYTES) {
        hash.update(slice);
        tokio::task::yield_now().await;
    }
    ObjectName::of(&hash.finalize().into())
}

impl Upload {
    pub(super) fn new(
        store: Arc<MediaStore>,
        place: Place,
        name: Option<ObjectName>,
        staged: Path,
        media_type: MediaType,
        share: Taken,
    ) -> Self {
        let (hash, waiting) = (Sha256::new(), BytesMut::new());
        Self { store, place, name, hash, staged, media_type, size: 0, waiting, parts: None, share }
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Takes more of the content.
    pub(crate) async fn write(&mut self, content: &[u8]) -> Result<(), MediaError> {
        let size = self.size.saturating_add(content.len() as u64);
        self.store.check_size(size)?;
        self.share.take(content.len() as u64)?;
        self.size = size;
        for slice in content.chunks(SLICE_BYTES) {
            if self.name.is_none() {
                self.hash.update(slice);
            }
            self.waiting.extend_from_slice(slice);
            if self.waiting.len() >= PART_BYTES {
                let part = self.waiting.split().freeze();
                self.pass_on(part).await?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The name that the content has, if it is all.
    pub(crate) fn name(&self) -> ObjectName {
        self.name.clone().unwrap_or_else(|| ObjectName::of(&self.hash.clone().finalize().into()))
    }

    /// Makes it an object. Once this has begun it comes to its end, whatever becomes of who waits for it: half of it would
    /// leave what nobody counts.
    pub(crate) async fn finish(self, permission: &Permission) -> Result<ObjectName, MediaError> {
        let name = permitted(permission, MediaAccess::Write)?;
        if name != self.name() {
            return Err(MediaError::Malformed("the permission is for another object".into()));
        }
        let tasks = self.store.tasks.clone();
        let finished = tasks.spawn(self.become_object(name)).await;
        finished.unwrap_or(Err(MediaError::Unavailable))
    }

    async fn become_object(mut self, name: ObjectName) -> Result<ObjectName, MediaError> {
        let path = self.store.path_of(&self.place, &name)?;
        // The same content may come several times at once, and is counted once.
        let share = self.share.share();
        let _alone = share.alone_with(name.as_str()).await;
        let made = self.make(&name, &path).await;
        if made.is_err() && self.parts.is_none() && self.staged != path {
            // Where the store takes nothing now, its next sweep finds it.
            let _ = self.store.delete(&self.staged).await;
        }
        let replaced = made?;
        self.store.counts.stored.fetch_add(1, Ordering::Relaxed);
        self.store.counts.stored_bytes.fetch_add(self.size, Ordering::Relaxed);
        self.share.keep(replaced);
        Ok(name)
    }

    /// Has the store make it an object; answers how many bytes it takes the place of.
    async fn make(&mut self, name: &ObjectName, path: &Path) -> Result<u64, MediaError> {
        let reference = name.reference();
        // Where the name was known before, what is replaced was taken into account then.
        let replaced = match &self.name {
            Some(_) => 0,
            None => self.store.size_of(path, &reference).await?,
        };
        self.store.record(&self.place, name, &self.media_type).await?;
        let rest = self.waiting.split().freeze();
        if self.parts.is_some() {
            if !rest.is_empty() {
                self.pass_on(rest).await?;
            }
            if let Some(parts) = &mut self.parts {
                parts.complete(&reference).await?;
            }
            // They are one object now, which can be deleted as such.
            self.parts = None;
        } else {
            let options = PutOptions { attributes: self.attributes(), ..PutOptions::default() };
            let putting = self.store.objects.put_opts(&self.staged, PutPayload::from(rest), options);
            self.store.timed(&reference, putting).await?;
        }
        if self.staged != *path {
            let copying = Duration::from_secs(self.size / COPIED_PER_SECOND);
            let timeout = self.store.config.timeout.saturating_add(copying);
            let renaming = self.store.objects.rename(&self.staged, path);
            self.store.timed_by(timeout, &reference, renaming).await?;
        }
        Ok(replaced)
    }

    async fn pass_on(&mut self, part: Bytes) -> Result<(), MediaError> {
        if self.parts.is_none() {
            let options =
                PutMultipartOptions { attributes: self.attributes(), ..PutMultipartOptions::default() };
            let beginning = self.store.objects.put_multipart_opts(&self.staged, options);
            let upload = Some(self.store.timed("media://", beginning).await?);
            self.parts = Some(Parts { upload, store: Arc::clone(&self.store), threads: Handle::current() });
        }
        let Some(upload) = self.parts.as_mut().and_then(|parts| parts.upload.as_mut()) else {
            return Err(MediaError::Unavailable);
        };
        self.store.timed("media://", upload.put_part(PutPayload::from(part))).await
    }

    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new();
        if self.store.keeps_types() {
            attributes.insert(Attribute::ContentType, self.media_type.as_str().to_owned().into());
        }
        attributes
    }
}

impl Parts {
    async fn complete(&mut self, reference: &str) -> Result<(), MediaError> {
        let Some(upload) = &mut self.upload else { return Err(MediaError::Unavailable) };
        self.store.timed(reference, upload.complete()).await?;
        self.upload = None;
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let store = Arc::clone(&self.store);
        let giving_up = async move {
            // What a store keeps that does not answer now, its own rules for such leftovers take away.
            let _ = store.timed("media://", upload.abort()).await;
        };
        self.store.tasks.spawn_on(giving_up, &self.threads);
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upload").field("size", &self.size).finish_non_exhaustive()
    }
}

//! The media store: where the objects of each tenant lie, and how long they do. A directory and a bucket differ in little
//! more than where media types are kept: with the object, or in a record beside it.
//!
//! Invariant: an object is read and written for a `Permission` that names it, and lies in a place that its tenant has alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use mentat_manifest::{Capability, MediaAccess};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::{Path, PathPart};
use object_store::{
    Attribute, BackoffConfig, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use super::config::{BucketConfig, MediaConfig, MediaPlace};
use super::error::MediaError;
use super::names::{MediaType, ObjectName, RESERVED, Reference, UPLOADS};
use super::objects::OpenObject;
use super::s3::Service;
use super::shares::{Share, Shares};
use super::uploads::Upload;
use crate::error::Error;
use crate::host::network::{Endpoint, Network};
use crate::security::policy::Permission;

/// Requests that are made once more when the service fails them, within the one timeout.
const MAX_RETRIES: usize = 2;
/// How long after its object a record of a media type is kept, and pieces of uploads that came to no end.
const LEFTOVERS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the server's log is told that the store fails.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a record at most.
const MAX_RECORD_BYTES: u64 = 1024;
/// The version of records.
const RECORD_VERSION: u32 = 1;

/// The objects of all tenants.
#[derive(Debug)]
pub(crate) struct MediaStore {
    pub(super) objects: Arc<dyn ObjectStore>,
    kind: Kind,
    pub(super) config: MediaConfig,
    shares: Shares,
    pub(super) counts: Counts,
    /// When the server's log was told something last.
    told: Mutex<Option<Instant>>,
    /// What is cleaned up after uploads that were given up.
    pub(super) tasks: TaskTracker,
}

#[derive(Debug)]
enum Kind {
    /// A directory whose objects lie by their names.
    Own,
    /// One with a directory for each tenant.
    Directory,
    /// A bucket.
    Bucket { name: String, prefix: String },
}

/// What a tenant has of a store: beginnings of paths, empty or with a `/` at the end.
#[derive(Debug)]
pub(super) struct Place {
    objects: String,
    /// Records of media types, where the store does not keep them with the objects.
    records: Option<String>,
    /// Uploads that are not finished.
    parts: String,
}

/// What a store keeps of an object beside its content.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    media_type: String,
}

/// What happened to objects since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) read: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) stored_bytes: AtomicU64,
    pub(super) damaged: AtomicU64,
    failed: AtomicU64,
    expired: AtomicU64,
}

/// What happened to the objects of a media store since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaCounts {
    /// Objects that were opened.
    pub read: u64,
    /// Bytes that came from the store.
    pub read_bytes: u64,
    /// Objects that agents stored.
    pub stored: u64,
    /// Bytes of them.
    pub stored_bytes: u64,
    /// Objects whose content was not what their digest says.
    pub damaged: u64,
    /// Requests that the store failed, or did not answer in time.
    pub failed: u64,
    /// Objects that were deleted at the end of their time.
    pub expired: u64,
}

impl MediaStore {
    /// # Errors
    /// `INVALID_REQUEST` for a directory that is not there, and for a bucket that cannot be named.
    pub(crate) fn new(config: MediaConfig, network: &Arc<Network>) -> Result<Option<Self>, Error> {
        let wrong =
            |error: &dyn std::fmt::Display| Error::InvalidRequest { message: format!("`media`: {error}") };
        let (objects, kind): (Arc<dyn ObjectStore>, _) = match &config.place {
            MediaPlace::Nowhere => return Ok(None),
            MediaPlace::Own(directory) | MediaPlace::Directory(directory) => {
                let opened = LocalFileSystem::new_with_prefix(directory).map_err(|error| wrong(&error))?;
                let is_own = matches!(config.place, MediaPlace::Own(_));
                // A reference that a service has answered is one to what a crash of the machine does not take away.
                let opened = opened.with_fsync(!is_own);
                (Arc::new(opened), if is_own { Kind::Own } else { Kind::Directory })
            }
            MediaPlace::Bucket(bucket) => {
                let opened = open_bucket(bucket, network, config.timeout)?;
                let (name, prefix) = (bucket.name.clone(), bucket.prefix.clone());
                (opened, Kind::Bucket { name, prefix })
            }
        };
        let shares = Shares::new(config.per_tenant);
        let (counts, told, tasks) = (Counts::default(), Mutex::default(), TaskTracker::new());
        Ok(Some(Self { objects, kind, config, shares, counts, told, tasks }))
    }

    /// The name of what a tenant refers to.
    pub(crate) fn resolve(&self, reference: Reference, tenant: &str) -> Result<ObjectName, MediaError> {
        let (bucket, key) = match reference {
            Reference::Name(name) => return Ok(name),
            Reference::Key { bucket, key } => (bucket, key),
        };
        match &self.kind {
            Kind::Bucket { name, .. } if *name == bucket => {
                let own = self.place(tenant).objects;
                match key.strip_prefix(&own) {
                    Some(name) => ObjectName::parse(name),
                    // What other tenants have is not told apart from what nobody has.
                    None => Err(MediaError::NotFound(format!("s3://{bucket}/{key}"))),
                }
            }
            Kind::Bucket { .. } | Kind::Own | Kind::Directory => Err(MediaError::OtherBucket(bucket)),
        }
    }

    /// Whether an object may have so many bytes.
    pub(super) fn check_size(&self, size: u64) -> Result<(), MediaError> {
        let limit = self.config.object;
        if size <= limit.0 {
            return Ok(());
        }
        Err(MediaError::TooLarge { what: "object", limit, advice: " (`media.object_bytes`)" })
    }

    /// Opens an object for reading.
    pub(crate) async fn open(
        self: &Arc<Self>,
        permission: &Permission,
        tenant: &str,
    ) -> Result<OpenObject, MediaError> {
        let name = permitted(permission, MediaAccess::Read)?;
        let (place, reference) = (self.place(tenant), name.reference());
        let path = path(&place.objects, &name)?;
        let looking = self.objects.get_opts(&path, GetOptions::new().with_head(true));
        let found = self.timed(&reference, looking).await?;
        self.check_size(found.meta.size)?;
        let media_type = match &place.records {
            Some(records) => self.recorded(&self::path(records, &name)?, &reference).await?,
            None => found.attributes.get(&Attribute::ContentType).map(|value| value.as_ref().to_owned()),
        };
        let media_type = media_type.and_then(|text| MediaType::parse(text.as_bytes()).ok());
        self.counts.read.fetch_add(1, Ordering::Relaxed);
        let media_type = media_type.unwrap_or_else(MediaType::unknown);
        Ok(OpenObject::new(Arc::clone(self), &name, path, found.meta, media_type))
    }

    /// Begins to store an object: of this name, or of one that its content will tell.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        permission: &Permission,
        tenant: &str,
        media_type: MediaType,
    ) -> Result<Upload, MediaError> {
        let name = match permission.capability() {
            Capability::Media { access: MediaAccess::Write, prefix } if prefix == UPLOADS => None,
            _ => Some(permitted(permission, MediaAccess::Write)?),
        };
        let place = self.place(tenant);
        let share = self.share(tenant, &place).await?;
        let replaced = match &name {
            Some(name) => self.size_of(&path(&place.objects, name)?, &name.reference()).await?,
            None => 0,
        };
        // A bucket takes what has a name to where it belongs. A directory does so by renaming, which costs nothing, and
        // keeps what a crash leaves where it is found.
        let staged = match (&name, &self.kind) {
            (Some(name), Kind::Bucket { .. }) => path(&place.objects, name)?,
            _ => parse(&format!("{}{}", place.parts, uuid::Uuid::now_v7()))?,
        };
        Ok(Upload::new(Arc::clone(self), place, name, staged, media_type, share.begin(replaced)))
    }

    /// Bytes of an object; 0 where there is none.
    pub(super) async fn size_of(&self, path: &Path, reference: &str) -> Result<u64, MediaError> {
        match self.timed(reference, self.objects.head(path)).await {
            Ok(found) => Ok(found.size),
            Err(MediaError::NotFound(_)) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Where an object of a tenant lies.
    pub(super) fn path_of(&self, place: &Place, name: &ObjectName) -> Result<Path, MediaError> {
        path(&place.objects, name)
    }

    /// Keeps an object's media type, where the store does not.
    pub(super) async fn record(
        &self,
        place: &Place,
        name: &ObjectName,
        media_type: &MediaType,
    ) -> Result<(), MediaError> {
        let Some(records) = &place.records else { return Ok(()) };
        let record = Record { version: RECORD_VERSION, media_type: media_type.as_str().to_owned() };
        let text = serde_json::to_vec(&record).map_err(|_| MediaError::Unavailable)?;
        let path = path(records, name)?;
        self.timed(&name.reference(), self.objects.put(&path, PutPayload::from(text))).await.map(drop)
    }

    /// Whether the store keeps media types with objects.
    pub(super) fn keeps_types(&self) -> bool {
        matches!(self.kind, Kind::Bucket { .. })
    }

    async fn recorded(&self, path: &Path, reference: &str) -> Result<Option<String>, MediaError> {
        let reading = async {
            let found = self.objects.get(path).await?;
            if found.meta.size > MAX_RECORD_BYTES { Ok(None) } else { found.bytes().await.map(Some) }
        };
        match self.timed(reference, reading).await {
            Ok(bytes) => {
                let record = bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
                let record = record.filter(|record| record.version == RECORD_VERSION);
                Ok(record.map(|record| record.media_type))
            }
            // The operator's own objects have none.
            Err(MediaError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the store as long as it may keep an execution waiting.
    pub(super) async fn timed<T>(
        &self,
        reference: &str,
        asked: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, MediaError> {
        self.timed_by(self.config.timeout, reference, asked).await
    }

    pub(super) async fn timed_by<T>(
        &self,
        timeout: Duration,
        reference: &str,
        asked: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, MediaError> {
        let answer = match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => answer.map_err(|error| {
                MediaError::of(error, reference, |error| {
                    self.tell(|| tracing::warn!(%error, "the media store failed"));
                })
            }),
            Err(_) => Err(MediaError::TimedOut(timeout)),
        };
        if matches!(answer, Err(MediaError::TimedOut(_) | MediaError::Unavailable)) {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Tells the server's log something, now and then: guests can cause it as often as they like.
    pub(super) fn tell(&self, say: impl FnOnce()) {
        let mut told = self.told.lock();
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            say();
        }
    }

    fn place(&self, tenant: &str) -> Place {
        self.place_of_part(PathPart::from(tenant).as_ref())
    }

    /// By the tenant's name as it stands in paths.
    fn place_of_part(&self, tenant: &str) -> Place {
        match &self.kind {
            Kind::Own => Place {
                objects: String::new(),
                records: Some(format!("{RESERVED}/records/")),
                parts: format!("{RESERVED}/parts/"),
            },
            Kind::Directory => Place {
                objects: format!("objects/{tenant}/"),
                records: Some(format!("records/{tenant}/")),
                parts: format!("parts/{tenant}/"),
            },
            Kind::Bucket { prefix, .. } => Place {
                objects: format!("{prefix}objects/{tenant}/"),
                records: None,
                parts: format!("{prefix}parts/{tenant}/"),
            },
        }
    }

    /// A tenant's share of the store, with what is there counted.
    async fn share(&self, tenant: &str, place: &Place) -> Result<Arc<Share>, MediaError> {
        let share = self.shares.of(PathPart::from(tenant).as_ref());
        share.ensure_counted(self.sweep_uploads(place, None)).await?;
        Ok(share)
    }

    /// Deletes a tenant's uploads that were stored before a time; answers the bytes of the others.
    async fn sweep_uploads(&self, place: &Place, before: Option<DateTime<Utc>>) -> Result<u64, MediaError> {
        let is_over = |found: &ObjectMeta| before.is_some_and(|before| found.last_modified < before);
        let mut bytes = 0_u64;
        let mut all = self.objects.list(Some(&parse(&format!("{}{UPLOADS}", place.objects))?));
        while let Some(found) = self.timed("media://", all.try_next()).await? {
            // It may have been stored again since it was listed.
            if is_over(&found)
                && self
                    .timed("media://", self.objects.head(&found.location))
                    .await
                    .is_ok_and(|now| is_over(&now))
            {
                self.delete(&found.location).await?;
                self.counts.expired.fetch_add(1, Ordering::Relaxed);
            } else {
                bytes = bytes.saturating_add(found.size);
            }
        }
        Ok(bytes)
    }

    /// Deletes what has been kept for long enough, and counts anew what each tenant has.
    pub(crate) async fn sweep(&self, now: DateTime<Utc>) -> Result<(), MediaError> {
        let (Kind::Directory | Kind::Bucket { .. }) = self.kind else { return Ok(()) };
        let before =
            |age: Duration| TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age));
        let expiry = self.config.retention.and_then(before);
        let leftovers = before(LEFTOVERS_KEPT.saturating_add(self.config.retention.unwrap_or_default()));
        for tenant in self.tenants("objects").await? {
            let place = self.place_of_part(&tenant);
            let stored = self.sweep_uploads(&place, expiry).await?;
            self.shares.of(&tenant).recount(stored);
            if let (Some(records), Some(_)) = (&place.records, expiry) {
                self.delete_before(&parse(&format!("{records}{UPLOADS}"))?, leftovers).await?;
            }
        }
        for tenant in self.tenants("parts").await? {
            let place = self.place_of_part(&tenant);
            self.delete_before(&parse(&place.parts)?, before(LEFTOVERS_KEPT)).await?;
        }
        Ok(())
    }

    /// The tenants that have something in one part of the store, as they stand in paths.
    async fn tenants(&self, part: &str) -> Result<Vec<String>, MediaError> {
        let prefix = match &self.kind {
            Kind::Bucket { prefix, .. } => prefix.as_str(),
            Kind::Own | Kind::Directory => "",
        };
        let above = parse(&format!("{prefix}{part}"))?;
        let found = self.timed("media://", self.objects.list_with_delimiter(Some(&above))).await?;
        let last = |path: &Path| path.filename().map(str::to_owned);
        Ok(found.common_prefixes.iter().filter_map(last).collect())
    }

    async fn delete_before(&self, above: &Path, time: Option<DateTime<Utc>>) -> Result<(), MediaError> {
        let Some(time) = time else { return Ok(()) };
        let mut all = self.objects.list(Some(above));
        while let Some(found) = self.timed("media://", all.try_next()).await? {
            if found.last_modified < time {
                self.delete(&found.location).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn delete(&self, path: &Path) -> Result<(), MediaError> {
        match self.timed("media://", self.objects.delete(path)).await {
            Ok(()) | Err(MediaError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What happened to objects since the start.
    pub(crate) fn counts(&self) -> MediaCounts {
        let Counts { read, read_bytes, stored, stored_bytes, damaged, failed, expired } = &self.counts;
        let [read, read_bytes, stored, stored_bytes, damaged, failed, expired] =
            [read, read_bytes, stored, stored_bytes, damaged, failed, expired]
                .map(|count| count.load(Ordering::Relaxed));
        MediaCounts { read, read_bytes, stored, stored_bytes, damaged, failed, expired }
    }
}

fn open_bucket(
    bucket: &BucketConfig,
    network: &Arc<Network>,
    timeout: Duration,
) -> Result<Arc<dyn ObjectStore>, Error> {
    let wrong =
        |error: &dyn std::fmt::Display| Error::InvalidRequest { message: format!("`media.bucket`: {error}") };
    let endpoint = Endpoint::of_service(&bucket.endpoint).map_err(|error| wrong(&error))?;
    let retry =
        RetryConfig { backoff: BackoffConfig::default(), max_retries: MAX_RETRIES, retry_timeout: timeout };
    let builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_endpoint(bucket.endpoint.trim_end_matches('/'))
        .with_region(&bucket.region)
        .with_allow_http(!endpoint.is_encrypted())
        .with_retry(retry)
        .with_http_connector(Service::new(Arc::clone(network), endpoint, timeout));
    let builder = match &bucket.credentials {
        None => builder.with_skip_signature(true),
        Some(credentials) => {
            let signed = builder
                .with_access_key_id(&credentials.access_key_id)
                .with_secret_access_key(&credentials.secret_access_key);
            match &credentials.session_token {
                Some(token) => signed.with_token(token),
                None => signed,
            }
        }
    };
    let opened = builder.build().map_err(|error| wrong(&error))?;
    Ok(Arc::new(opened))
}

/// The one object that a permission is for.
pub(super) fn permitted(permission: &Permission, access: MediaAccess) -> Result<ObjectName, MediaError> {
    match permission.capability() {
        Capability::Media { access: given, prefix } if *given == access => ObjectName::parse(prefix),
        other => Err(MediaError::Malformed(format!("`{other}` is not for an object"))),
    }
}

fn path(above: &str, name: &ObjectName) -> Result<Path, MediaError> {
    parse(&format!("{above}{}", name.as_str()))
}

fn parse(text: &str) -> Result<Path, MediaError> {
    Path::parse(text).map_err(|error| MediaError::Malformed(error.to_string()))
}

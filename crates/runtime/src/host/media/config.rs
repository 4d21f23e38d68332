//! Where objects are kept, and how much of that a tenant and an execution may have.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mentat_manifest::ByteCount;

/// The media store of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaConfig {
    /// Where the objects are.
    pub place: MediaPlace,
    /// Bytes of one object at most.
    pub object: ByteCount,
    /// Bytes of all that agents have stored for one tenant.
    pub per_tenant: ByteCount,
    /// How long what agents have stored is kept; for ever where `None`.
    pub retention: Option<Duration>,
    /// How long the store may keep an execution waiting, for each request that is made of it.
    pub timeout: Duration,
}

/// Where objects are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MediaPlace {
    /// There is no store.
    #[default]
    Nowhere,
    /// A directory of this machine, in which objects lie by their names: there is one tenant, who owns it.
    Own(PathBuf),
    /// A directory of this machine, in which each tenant has one.
    Directory(PathBuf),
    /// A bucket of a service that speaks S3, in which each tenant has a prefix.
    Bucket(BucketConfig),
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketConfig {
    /// Its name.
    pub name: String,
    /// The service, such as `https://s3.eu-central-1.amazonaws.com`.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// What all keys begin with; empty, or with a `/` at its end.
    pub prefix: String,
    /// Who asks; without them requests are not signed.
    pub credentials: Option<BucketCredentials>,
}

/// Who asks a service for objects. Nothing prints them.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketCredentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
    /// What comes with credentials that are lent for a time.
    pub session_token: Option<String>,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            place: MediaPlace::Nowhere,
            // A long video; its length must fit into the 31 bits that the core ABI answers with.
            object: ByteCount(1 << 30),
            per_tenant: ByteCount(16 << 30),
            retention: None,
            timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for BucketCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BucketCredentials")
    }
}

//! The media store: the section of the configuration, and what the runtime makes of it. Credentials are read from where
//! the configuration points to; they stand nowhere in it, since it can be printed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mentat_manifest::ByteCount;
use mentat_runtime::security::owners::OwnMedia;
use mentat_runtime::{BucketConfig, BucketCredentials, MediaConfig, MediaPlace};
use serde::{Deserialize, Serialize};

use super::offers::value_of;
use super::{ConfigError, VariableConfig};

/// Bytes of an object at most: what S3 copies in one request.
const MAX_OBJECT: ByteCount = ByteCount(5 << 30);

/// Where objects are kept, and how much of that a tenant may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MediaSection {
    /// A directory of this machine; `media` in the data directory where empty.
    pub dir: PathBuf,
    /// A bucket in place of a directory.
    pub bucket: String,
    /// The service that has the bucket; Amazon's of the region where empty.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// What all keys begin with.
    pub prefix: String,
    /// Who asks for objects of the bucket.
    pub credentials: Vec<VariableConfig>,
    /// What callers may do with objects of their tenant themselves, at `/v1/media`: `read-write`, `read-only` or `none`. What
    /// agents may is for policies.
    pub callers: OwnMedia,
    /// Bytes of one object.
    pub object_bytes: ByteCount,
    /// Bytes of all that agents and callers have stored for one tenant.
    pub bytes_per_tenant: ByteCount,
    /// Days that what agents and callers have stored is kept; 0 for ever.
    pub retain_days: u64,
    /// Milliseconds that the store may keep an execution waiting.
    pub timeout_ms: u64,
}

impl Default for MediaSection {
    fn default() -> Self {
        let MediaConfig { object, per_tenant, timeout, .. } = MediaConfig::default();
        Self {
            dir: PathBuf::new(),
            bucket: String::new(),
            endpoint: String::new(),
            region: "us-east-1".into(),
            prefix: String::new(),
            credentials: Vec::new(),
            callers: OwnMedia::default(),
            object_bytes: object,
            bytes_per_tenant: per_tenant,
            retain_days: 0,
            timeout_ms: super::sections::milliseconds(timeout),
        }
    }
}

impl MediaSection {
    /// What is wrong with it, as far as that can be told without looking at anything else.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |text: String| Err(ConfigError(text));
        if self.bucket.is_empty() {
            let bucket_keys = [
                ("media.endpoint", !self.endpoint.is_empty()),
                ("media.prefix", !self.prefix.is_empty()),
                ("media.credentials", !self.credentials.is_empty()),
            ];
            if let Some((key, _)) = bucket_keys.iter().find(|(_, given)| *given) {
                return wrong(format!("`{key}` is for a bucket; name it by `media.bucket`"));
            }
        } else if !self.dir.as_os_str().is_empty() {
            return wrong(
                "`media.dir` and `media.bucket` are two places for objects; give one of them".into(),
            );
        }
        if self.object_bytes > MAX_OBJECT {
            return wrong(format!(
                "`media.object_bytes` is {}; {MAX_OBJECT} are the most",
                self.object_bytes
            ));
        }
        if self.prefix.starts_with('/') || self.prefix.contains("//") || self.prefix.contains("..") {
            return wrong("`media.prefix` must not begin with `/`, or hold `//` or `..`".into());
        }
        for credential in &self.credentials {
            if credential.value.is_some() || !credential.hosts.is_empty() {
                return wrong(format!(
                    "`media.credentials`: `{}` needs `from` or `file`, and nothing else: the configuration can be \
                     printed, and goes to no host but the bucket's",
                    credential.name
                ));
            }
        }
        Ok(())
    }

    /// What the runtime is to know.
    ///
    /// # Errors
    /// For credentials that cannot be read, or are not whole.
    pub(super) fn read(&self, data_dir: &Path) -> Result<MediaConfig, ConfigError> {
        let days = |days: u64| Duration::from_secs(days.saturating_mul(24 * 60 * 60));
        let place = if !self.bucket.is_empty() {
            MediaPlace::Bucket(self.read_bucket()?)
        } else if self.dir.as_os_str().is_empty() {
            MediaPlace::Directory(data_dir.join("media"))
        } else {
            MediaPlace::Directory(self.dir.clone())
        };
        Ok(MediaConfig {
            place,
            object: self.object_bytes,
            per_tenant: self.bytes_per_tenant,
            retention: (self.retain_days > 0).then(|| days(self.retain_days)),
            timeout: Duration::from_millis(self.timeout_ms.max(1)),
        })
    }

    fn read_bucket(&self) -> Result<BucketConfig, ConfigError> {
        let endpoint = if self.endpoint.is_empty() {
            format!("https://s3.{}.amazonaws.com", self.region)
        } else {
            self.endpoint.clone()
        };
        let prefix = match self.prefix.as_str() {
            "" => String::new(),
            prefix if prefix.ends_with('/') => prefix.to_owned(),
            prefix => format!("{prefix}/"),
        };
        let credentials = self.read_credentials()?;
        Ok(BucketConfig {
            name: self.bucket.clone(),
            endpoint,
            region: self.region.clone(),
            prefix,
            credentials,
        })
    }

    fn read_credentials(&self) -> Result<Option<BucketCredentials>, ConfigError> {
        if self.credentials.is_empty() {
            return Ok(None);
        }
        let (mut id, mut secret, mut token) = (None, None, None);
        for credential in &self.credentials {
            let read = value_of("media.credentials", credential);
            let value = read.map_err(|error| ConfigError(error.to_string()))?;
            let wrong =
                |what: &str| ConfigError(format!("`media.credentials`: `{}` {what}", credential.name));
            let place = match credential.name.as_str() {
                "access_key_id" => &mut id,
                "secret_access_key" => &mut secret,
                "session_token" => &mut token,
                _ => {
                    let known = "there are `access_key_id`, `secret_access_key` and `session_token`";
                    return Err(wrong(&format!("is unknown; {known}")));
                }
            };
            if place.replace(value).is_some() {
                return Err(wrong("is given twice"));
            }
        }
        match (id, secret) {
            (Some(access_key_id), Some(secret_access_key)) => {
                Ok(Some(BucketCredentials { access_key_id, secret_access_key, session_token: token }))
            }
            _ => Err(ConfigError(
                "`media.credentials` needs both, `access_key_id` and `secret_access_key`".into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<MediaConfig, String> {
        let section: MediaSection = toml::from_str(text).map_err(|error| error.to_string())?;
        section.check().and_then(|()| section.read(Path::new("/data"))).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_lie_in_the_data_directory_unless_another_place_is_named() {
        assert_eq!(read("").unwrap().place, MediaPlace::Directory("/data/media".into()));
        assert_eq!(read("dir = '/srv/media'").unwrap().place, MediaPlace::Directory("/srv/media".into()));
        let bucket = BucketConfig {
            name: "pictures".into(),
            endpoint: "https://s3.eu-central-1.amazonaws.com".into(),
            region: "eu-central-1".into(),
            prefix: "mentat/".into(),
            credentials: None,
        };
        let text = "bucket = 'pictures'\nregion = 'eu-central-1'\nprefix = 'mentat'";
        assert_eq!(read(text).unwrap().place, MediaPlace::Bucket(bucket));
    }

    #[test]
    fn credentials_come_from_elsewhere_and_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, value: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, value).unwrap();
            format!("{{ name = '{name}', file = '{}' }}", path.display())
        };
        let (id, secret) = (file("access_key_id", "AKID\n"), file("secret_access_key", "hunter2hunter2\n"));
        let config = read(&format!("bucket = 'b'\ncredentials = [{id}, {secret}]")).unwrap();
        let MediaPlace::Bucket(BucketConfig { credentials: Some(credentials), .. }) = &config.place else {
            panic!("{config:?}");
        };
        assert_eq!(
            (&*credentials.access_key_id, &*credentials.secret_access_key),
            ("AKID", "hunter2hunter2")
        );
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_store_that_makes_no_sense_is_refused() {
        for (text, says) in [
            ("dir = '/a'\nbucket = 'b'", "two places"),
            ("endpoint = 'http://localhost'", "`media.endpoint` is for a bucket"),
            ("bucket = 'b'\nprefix = '/a'", "must not begin with `/`"),
            ("object_bytes = '6GB'", "5GB are the most"),
            (
                "bucket = 'b'\ncredentials = [{ name = 'access_key_id', value = 'x' }]",
                "needs `from` or `file`",
            ),
            ("bucket = 'b'\ncredentials = [{ name = 'access_key_id', from = 'PATH' }]", "needs both"),
            ("bucket = 'b'\ncredentials = [{ name = 'password', from = 'PATH' }]", "`password` is unknown"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

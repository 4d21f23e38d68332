//! Registries that agents may be loaded from: the section of the configuration, and the client that is made of it. Passwords
//! stand in a file of their own, since the configuration can be printed.

use std::path::PathBuf;
use std::time::Duration;

use mentat_manifest::ByteCount;
use mentat_oci::{Admission, Client, Credentials, Patience, ReferenceError, Registry, Rules};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Milliseconds until a connection stands at most, as far as `oci.idle_timeout_ms` is no less.
const MAX_CONNECT_MS: u64 = 10_000;

/// Which registries agents may be loaded from, and how these are asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OciSection {
    /// Registries, or repositories in them, that agents may be loaded from.
    pub registries: Vec<String>,
    /// Registries that are spoken to without encryption.
    pub insecure: Vec<String>,
    /// Further hosts that registries may send to.
    pub hosts: Vec<String>,
    /// A file with names and passwords; empty for none.
    pub credentials: PathBuf,
    /// A PEM file of roots beside the system's; empty for none.
    pub roots: PathBuf,
    /// Agents that are pulled at one time.
    pub concurrent: u32,
    /// Milliseconds that pulling an agent may take.
    pub timeout_ms: u64,
    /// Milliseconds that a registry may be silent.
    pub idle_timeout_ms: u64,
}

impl Default for OciSection {
    fn default() -> Self {
        Self {
            registries: Vec::new(),
            insecure: Vec::new(),
            hosts: Vec::new(),
            credentials: PathBuf::new(),
            roots: PathBuf::new(),
            concurrent: 4,
            timeout_ms: 120_000,
            idle_timeout_ms: 10_000,
        }
    }
}

impl OciSection {
    /// The rules that it makes.
    ///
    /// # Errors
    /// For what names no registry.
    pub(super) fn rules(&self) -> Result<Rules, ConfigError> {
        let wrong = |key: &str, error: &ReferenceError| ConfigError(format!("`oci.{key}`: {error}"));
        let registries = |key: &str, names: &[String]| {
            let read = names.iter().map(|name| name.parse()).collect::<Result<Vec<Registry>, _>>();
            read.map_err(|error| wrong(key, &error))
        };
        let allowed = self.registries.iter().map(|name| name.parse()).collect::<Result<_, _>>();
        Ok(Rules {
            admission: Admission::Only(allowed.map_err(|error| wrong("registries", &error))?),
            plain: registries("insecure", &self.insecure)?,
            hosts: registries("hosts", &self.hosts)?,
        })
    }

    /// The client that it makes, for modules of so many bytes at most.
    ///
    /// # Errors
    /// For what names no registry, and files that cannot be read.
    pub(super) fn client(&self, max_module: ByteCount) -> Result<Client, ConfigError> {
        let given = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        let credentials = given(&self.credentials).map(|path| Credentials::read(&path)).transpose();
        let credentials = credentials.map_err(|error| ConfigError(format!("`oci.credentials`: {error}")))?;
        let milliseconds = |milliseconds: u64| Duration::from_millis(milliseconds.max(1));
        let patience = Patience {
            connect: milliseconds(self.idle_timeout_ms.min(MAX_CONNECT_MS)),
            silence: milliseconds(self.idle_timeout_ms),
            total: milliseconds(self.timeout_ms),
        };
        let roots = given(&self.roots);
        Client::new(self.rules()?, credentials.unwrap_or_default(), roots.as_deref(), patience, max_module)
            .map_err(|error| ConfigError(format!("`oci.roots`: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_unless_it_is_named_and_what_names_nothing_is_told() {
        let section: OciSection = toml::from_str("").unwrap();
        assert!(matches!(section.rules().unwrap().admission, Admission::Only(allowed) if allowed.is_empty()));
        for (text, says) in [
            ("registries = ['https://harbor.lan']", "`oci.registries`"),
            ("registries = ['harbor.lan/Agents']", "a repository has"),
            ("insecure = ['harbor.lan/agents']", "`oci.insecure`"),
            ("hosts = ['*.example.com']", "`oci.hosts`"),
            ("credentials = '/no/such/file'", "`oci.credentials`"),
            ("roots = '/no/such/file'", "`oci.roots`"),
        ] {
            let section: OciSection = toml::from_str(text).unwrap();
            let error = section.client(ByteCount(1)).unwrap_err().to_string();
            assert!(error.contains(says), "{says} is not in {error}");
        }
    }
}

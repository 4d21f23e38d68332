//! How an agent is named: its id and its version, checked once and carried as types from then on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::escape::escape_untrusted;

/// Bytes of an agent's id at most.
const MAX_ID_BYTES: usize = 128;
/// Bytes of a version at most.
const MAX_VERSION_BYTES: usize = 128;

/// An agent's id: letters, digits, `_`, `.` and `-`, at most 128 bytes, and not `.` or `..`, so that
/// it is safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[a-zA-Z0-9_.-]+$", "maxLength" = 128))]
// Clones share the text: every execution carries its agent's id to several places.
pub struct AgentId(#[schemars(with = "String")] Arc<str>);

/// An agent's version by SemVer 2.0; ordered by SemVer's precedence, build metadata breaking ties.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
// Clones share it, as those of an id do.
pub struct AgentVersion(#[schemars(with = "String")] Arc<Written>);

/// A version and how it is written, since each reply tells it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Written {
    version: semver::Version,
    text: Box<str>,
}

/// Why a text is no id or version: a whole sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(String);

impl AgentId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentId {
    type Err = NameError;

    /// # Errors
    /// Names the id and what an id may hold.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let fits = !text.is_empty() && text.len() <= MAX_ID_BYTES && text.bytes().all(allowed);
        if fits && text != "." && text != ".." {
            return Ok(Self(text.into()));
        }
        Err(NameError(format!(
            "agent id `{}` must be 1 to {MAX_ID_BYTES} letters, digits, `_`, `.` or `-`, and not `.` or `..`",
            escape_untrusted(text, 64)
        )))
    }
}

impl TryFrom<String> for AgentId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AgentId> for String {
    fn from(id: AgentId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Default for AgentVersion {
    /// The first release of anything, `1.0.0`.
    fn default() -> Self {
        semver::Version::new(1, 0, 0).into()
    }
}

impl AgentVersion {
    /// The version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Its major, minor and patch numbers.
    #[must_use]
    pub fn numbers(&self) -> (u64, u64, u64) {
        let semver::Version { major, minor, patch, .. } = self.0.version;
        (major, minor, patch)
    }
}

impl From<semver::Version> for AgentVersion {
    fn from(version: semver::Version) -> Self {
        let text = version.to_string().into();
        Self(Arc::new(Written { version, text }))
    }
}

impl FromStr for AgentVersion {
    type Err = NameError;

    /// # Errors
    /// Names the version and what SemVer wants.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: &str| {
            NameError(format!(
                "version `{}` is not SemVer 2.0, such as `1.0.0`: {why}",
                escape_untrusted(text, 64)
            ))
        };
        if text.len() > MAX_VERSION_BYTES {
            return Err(wrong("it is too long"));
        }
        let version: semver::Version =
            text.parse().map_err(|error: semver::Error| wrong(&error.to_string()))?;
        Ok(version.into())
    }
}

impl TryFrom<String> for AgentVersion {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AgentVersion> for String {
    fn from(version: AgentVersion) -> Self {
        version.as_str().to_owned()
    }
}

impl fmt::Display for AgentVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_safe_as_a_file_name() {
        for good in ["a", "mentatlab.word-statistics", "A_1.b-2", "...", &"x".repeat(128)] {
            assert_eq!(good.parse::<AgentId>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", "a@1", &"x".repeat(129)] {
            assert!(bad.parse::<AgentId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_are_ordered_by_semver() {
        let ordered = ["0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0", "1.2.0", "1.10.0"];
        let versions: Vec<AgentVersion> = ordered.iter().map(|text| text.parse().unwrap()).collect();
        assert!(versions.is_sorted());
        assert_eq!(versions[2].as_str(), "1.0.0-alpha.1");
        let error = "1.0".parse::<AgentVersion>().unwrap_err().to_string();
        assert!(error.contains("`1.0` is not SemVer"), "{error}");
    }
}

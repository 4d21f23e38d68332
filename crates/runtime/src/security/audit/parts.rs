//! What records say that are about no execution.

use serde::{Deserialize, Serialize};

/// Leave to take records out of the folder: none from `first_kept` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPart {
    /// The first record that stays.
    pub first_kept: u64,
    /// Why those before it may go.
    pub reason: RetentionReason,
    /// What the operator allows: seconds of age, or bytes of records.
    pub limit: u64,
    /// Whether they are kept in an archive.
    pub archived: bool,
}

/// Compiled code that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactPart {
    /// `sha256:` and the digest of the module that it should have been made from.
    pub module: String,
    /// The name of its file.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

/// An agent that was kept out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectionPart {
    /// The manifest's id.
    pub agent: String,
    /// The manifest's version.
    pub version: String,
    /// `sha256:` and the digest of the module.
    pub module: String,
    /// Whose agent it is.
    pub tenant: String,
    /// The name of the credential that it came with; none where the service found it among what is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The cause in one word.
    pub code: String,
    /// The cause in a sentence.
    pub reason: String,
}

/// What a caller did with an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaPart {
    /// What was done.
    pub action: MediaAction,
    /// What the object is called.
    pub reference: String,
    /// Its bytes.
    pub bytes: u64,
    /// Whose object it is.
    pub tenant: String,
    /// The name of the credential that it was asked for with.
    pub caller: String,
}

/// What can be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaAction {
    /// It was stored.
    Stored,
    /// It was opened to be read.
    Read,
}

/// Records that are in no log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossPart {
    /// How many.
    pub records: u64,
}

/// Why records are taken out of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionReason {
    /// They are older than the operator wants to keep them.
    Age,
    /// All records together take more room than the operator gives them.
    Size,
}

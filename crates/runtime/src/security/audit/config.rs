//! How the audit log is kept, as the operator has it.

use std::path::PathBuf;
use std::time::Duration;

use super::redaction::SensitiveValues;
use super::retention::RetentionConfig;

/// How the log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// Where.
    pub folder: PathBuf,
    /// What the log calls itself in its checkpoints.
    pub origin: String,
    /// When the disk is waited for.
    pub sync: SyncMode,
    /// What becomes of executions while the log cannot be written.
    pub on_failure: OnAuditFailure,
    /// How often pending records are moved into the tree and its root is signed.
    pub checkpoint_every: Duration,
    /// How long records are kept.
    pub retention: RetentionConfig,
    /// What no record may hold.
    pub sensitive: SensitiveValues,
}

/// When the writer waits until the disk itself has what it wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// After each group of records.
    Group,
    /// With each checkpoint.
    #[default]
    Checkpoint,
    /// Never; the system decides. When the machine stops, the log may be left such that it cannot go on.
    Never,
}

/// What becomes of executions while the audit log cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnAuditFailure {
    /// They are refused.
    #[default]
    Refuse,
    /// They run all the same; their records are written when the log can be written again, and counted where there are
    /// too many to keep.
    Continue,
}

//! What is stored of an agent, and on which terms.

use std::sync::Arc;
use std::time::SystemTime;

use mentat_manifest::{AgentId, AgentVersion, Attestation, Manifest, ModuleDigest};
use mentat_runtime::security::attestation::Candidate;
use serde::{Deserialize, Serialize};

use crate::signatures::LastStanding;

/// A version of an agent as it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAgent {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Its id.
    pub id: AgentId,
    /// Its version.
    pub version: AgentVersion,
    /// Its manifest's text.
    pub manifest: String,
    /// Its module, or the image of a container agent.
    pub module: ModuleDigest,
    /// Which of the two it is.
    pub runtime: StoredRuntime,
    /// The image of an agent that has a module as well, where it was looked up.
    pub image: Option<ModuleDigest>,
    /// The module that cannot run here, where the image was taken in its place.
    pub in_place_of: Option<ModuleDigest>,
    /// Who signed it, as the manifest says or as was said beside it.
    pub attestation: Option<Arc<Attestation>>,
    /// When it was loaded.
    pub loaded_at: SystemTime,
    /// What was last found of its signature; copies share it.
    pub standing: LastStanding,
}

/// What executes a stored agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredRuntime {
    /// Its module, which is stored with it.
    #[default]
    Wasm,
    /// An image, which the container engine has.
    Container,
}

/// What to do when a version is loaded already with other content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Refuse: a version means one content.
    Refuse,
    /// Put the new content in its place.
    Replace,
}

/// What to do when an agent is not signed and another version of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverSigned {
    /// Refuse: whoever never had the signer's key must not take the place of what was signed by it.
    Refuse,
    /// Nobody minds signatures.
    Allow,
}

/// On which terms an agent is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Where its version is stored with other content.
    pub on_conflict: OnConflict,
    /// Where it is not signed and another version is.
    pub over_signed: OverSigned,
}

impl StoredAgent {
    /// The module that is stored with it, where it has one.
    #[must_use]
    pub fn stored_module(&self) -> Option<ModuleDigest> {
        (self.runtime == StoredRuntime::Wasm).then_some(self.module)
    }

    /// Whether the content is the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        // An image that was not looked up is none that differs; nor is a module of which the digest was not kept.
        let is_alike = |ours: &Option<ModuleDigest>, theirs: &Option<ModuleDigest>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.module == other.module
            && is_alike(&self.image, &other.image)
            && is_alike(&self.in_place_of, &other.in_place_of)
            && self.manifest == other.manifest
            && self.attestation == other.attestation
    }

    /// What is to be judged by its signature.
    #[must_use]
    pub fn candidate(&self) -> Candidate<'_> {
        Candidate {
            tenant: &self.tenant,
            id: &self.id,
            version: &self.version,
            manifest: &self.manifest,
            module: &self.module,
            attestation: self.attestation.as_deref(),
        }
    }
}

/// The attestation in a manifest's text, which is read only where there can be one.
pub(super) fn own_attestation(manifest: &str) -> Option<Arc<Attestation>> {
    if !manifest.contains("attestation") {
        return None;
    }
    Manifest::parse(manifest).ok()?.attestation.map(Arc::new)
}

//! Agents that callers have the service load from an OCI registry: pulled, and then loaded as any other.

use std::sync::Arc;

use mentat_manifest::AgentId;
use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;

use super::{Dispatcher, LoadRequest};
use crate::oci::PulledAgent;
use crate::registry::{LoadedAgent, OnConflict};

/// A request to load an agent out of an OCI registry.
#[derive(Debug)]
pub struct PullRequest {
    /// The id that the client expects; checked against the manifest where given.
    pub agent_id: Option<AgentId>,
    /// Which agent: `oci://HOST/REPOSITORY@sha256:…`.
    pub reference: String,
    /// The attestation where it comes beside the manifest, as YAML or JSON.
    pub attestation: Option<String>,
    /// What to do when the version is loaded with other content.
    pub on_conflict: OnConflict,
}

impl Dispatcher {
    /// Pulls an agent out of a registry that the operator allows, and loads it.
    ///
    /// # Errors
    /// Those of `load`; `INVALID_REQUEST` for a reference without a digest and for what is no agent, `POLICY_DENIED` for
    /// another registry, `UNAVAILABLE` for one that does not answer.
    pub async fn load_from(&self, caller: &Caller, request: PullRequest) -> Result<Arc<LoadedAgent>, Error> {
        let PullRequest { agent_id, reference, attestation, on_conflict } = request;
        let pulled = self.oci.pull(&reference).await;
        self.metrics.pulled(&pulled);
        let PulledAgent { manifest, module } = pulled?;
        self.load(caller, LoadRequest { agent_id, manifest, module, attestation, on_conflict }).await
    }
}

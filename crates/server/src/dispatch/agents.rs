//! The agents that are there: which, and of each version whether it is the active one.

use std::sync::Arc;

use mentat_manifest::{AgentId, AgentVersion};
use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;

use super::Dispatcher;
use crate::registry::LoadedAgent;
use crate::signatures::StandingCounts;
use crate::store::StoredAgent;

/// Agents of one page where the client does not say, and at most.
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// Some of a tenant's agents.
#[derive(Debug)]
pub struct AgentPage {
    /// In order of id and version; the flag marks the active ones.
    pub agents: Vec<(StoredAgent, bool)>,
    /// The token of the next page; empty where this is the last.
    pub next: String,
}

impl Dispatcher {
    /// Whether the agent, or the version of it, can be executed.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn is_loaded(
        &self,
        caller: &Caller,
        id: &AgentId,
        version: Option<&AgentVersion>,
    ) -> Result<bool, Error> {
        self.registry.is_loaded(caller, id, version)
    }

    /// The agent with its module's facts, brought into memory if need be; the flag says whether it is
    /// the active version.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub async fn get_agent(
        &self,
        caller: &Caller,
        id: &AgentId,
        version: Option<&AgentVersion>,
    ) -> Result<(Arc<LoadedAgent>, bool), Error> {
        let agent = self.registry.get(caller, id, version).await?;
        self.registry.signatures().standing(&agent.stored);
        let active = self.registry.is_active(&agent.stored);
        Ok((agent, active))
    }

    /// A page of the tenant's agents, all versions, in order of id and version. `size` 0 is the usual one.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a token that no page has answered.
    pub async fn list_agents(&self, caller: &Caller, size: usize, token: &str) -> Result<AgentPage, Error> {
        let size = if size == 0 { DEFAULT_PAGE } else { size.min(MAX_PAGE) };
        let after = match token {
            "" => None,
            token => Some(page_start(token)?),
        };
        let (registry, caller) = (Arc::clone(&self.registry), caller.clone());
        // Where what the operator trusts has changed, the signatures of a whole page are verified anew.
        let agents = tokio::task::spawn_blocking(move || registry.list(&caller, after.as_ref(), size))
            .await
            .map_err(|error| Error::internal("listing the agents", error))??;
        let last = agents.last().filter(|_| agents.len() == size);
        let next = last.map(|(agent, _)| format!("{}@{}", agent.id, agent.version)).unwrap_or_default();
        Ok(AgentPage { agents, next })
    }

    /// Removes an agent, or one version of it; answers what was removed.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub async fn unload(
        &self,
        caller: &Caller,
        id: &AgentId,
        version: Option<&AgentVersion>,
    ) -> Result<Vec<StoredAgent>, Error> {
        let removed = self.registry.unload(caller, id, version).await?;
        tracing::info!(agent_id = %id, versions = removed.len(), tenant = %caller.tenant, "agent unloaded");
        Ok(removed)
    }

    /// Finds out how every stored agent stands by its signature, and tells of those that may not run.
    ///
    /// # Errors
    /// `INTERNAL` when the store cannot be read.
    pub fn review_signatures(&self) -> Result<StandingCounts, Error> {
        self.registry.review()
    }

    /// How many of the agents in memory stand how.
    #[must_use]
    pub fn standings(&self) -> StandingCounts {
        self.registry.standings()
    }

    /// Makes a loaded version the active one: roll back, or forward.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`; `ATTESTATION_REJECTED`.
    pub async fn activate(
        &self,
        caller: &Caller,
        id: &AgentId,
        version: &AgentVersion,
    ) -> Result<StoredAgent, Error> {
        self.registry.activate(caller, id, version).await
    }
}

fn page_start(token: &str) -> Result<(AgentId, AgentVersion), Error> {
    let parsed =
        token.split_once('@').and_then(|(id, version)| Some((id.parse().ok()?, version.parse().ok()?)));
    parsed.ok_or_else(|| Error::InvalidRequest {
        message: "`page_token` is not one that a list has answered".into(),
    })
}

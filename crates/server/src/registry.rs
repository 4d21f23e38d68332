//! The agents that can be executed: the durable store, and in memory the compiled modules of those
//! in use. What `load` acknowledged is in the store and survives a kill at any moment; what is in
//! memory can always be made again from it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use mentat_manifest::{AgentId, AgentVersion, Manifest, ModuleDigest};
use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use mentat_runtime::security::policy::Rules;
use mentat_runtime::{CodeOrigin, Module, Pool, PoolConfig, Runtime};
use parking_lot::RwLock;

use crate::store::{AgentStore, StoredAgent};

pub use crate::store::OnConflict;

/// All agents of all tenants.
#[derive(Debug)]
pub struct Registry {
    store: Arc<AgentStore>,
    runtime: Arc<Runtime>,
    rules: Rules,
    loaded: RwLock<HashMap<AgentKey, Arc<LoadedAgent>>>,
}

/// An agent ready to execute.
#[derive(Debug)]
pub struct LoadedAgent {
    /// What the store knows of it.
    pub stored: StoredAgent,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its module, compiled and linked.
    pub module: Arc<Module>,
    /// Where its code came from when it was brought into memory.
    pub origin: CodeOrigin,
    /// Its own places, where its manifest sets `resources.max_concurrent`.
    pub places: Option<Pool>,
}

type AgentKey = (Arc<str>, AgentId, AgentVersion);

impl Registry {
    /// A registry over a store.
    #[must_use]
    pub fn new(store: Arc<AgentStore>, runtime: Arc<Runtime>, rules: Rules) -> Self {
        Self { store, runtime, rules, loaded: RwLock::default() }
    }

    /// Compiles, checks and stores an agent, and makes it the active version. When this answers, the
    /// agent is durable.
    ///
    /// # Errors
    /// `INVALID_MANIFEST`, `INVALID_MODULE`; `INVALID_REQUEST` for a version that is loaded with other
    /// content, or a budget over the operator's ceiling.
    pub async fn load(
        &self,
        caller: &Caller,
        manifest_text: String,
        module_bytes: Bytes,
        on_conflict: OnConflict,
    ) -> Result<Arc<LoadedAgent>, Error> {
        let manifest = Manifest::parse(&manifest_text)?;
        if manifest.runtime_kind() != mentat_manifest::RuntimeKind::Wasm {
            return Err(Error::InvalidRequest {
                message: format!(
                    "agent `{}` is a container agent; this server executes `runtime: wasm` only",
                    manifest.id
                ),
            });
        }
        let bytes = module_bytes.clone();
        // A large module takes its time, which is not a request thread's.
        let module = tokio::task::spawn_blocking(move || ModuleDigest::of(&bytes))
            .await
            .map_err(|error| Error::internal("reading the module", error))?;
        let stored = StoredAgent {
            tenant: Arc::clone(&caller.tenant),
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            manifest: manifest_text,
            module,
            loaded_at: SystemTime::now(),
        };
        // Told before the work of compiling; what counts is the same check when it is stored.
        self.store.check_conflict(&stored, on_conflict)?;
        let agent = Arc::new(self.make_ready(stored.clone(), manifest, module_bytes.clone()).await?);
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.put(&stored, &module_bytes, on_conflict))
            .await
            .map_err(|error| Error::internal("storing the agent", error))??;
        self.loaded.write().insert(key(&agent.stored), Arc::clone(&agent));
        Ok(agent)
    }

    /// The agent, brought into memory if it is not there: its active version, or the one asked for.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub async fn get(
        &self,
        caller: &Caller,
        id: &AgentId,
        version: Option<&AgentVersion>,
    ) -> Result<Arc<LoadedAgent>, Error> {
        let version = match version {
            Some(version) => version.clone(),
            None => self.store.active(&caller.tenant, id).ok_or_else(|| not_found(id, None))?,
        };
        let key = (Arc::clone(&caller.tenant), id.clone(), version);
        if let Some(agent) = self.loaded.read().get(&key) {
            return Ok(Arc::clone(agent));
        }
        let (tenant, id, version) = key;
        let stored = self.describe(caller, &id, Some(&version))?;
        let store = Arc::clone(&self.store);
        let digest = stored.module;
        let bytes = tokio::task::spawn_blocking(move || store.module(&digest))
            .await
            .map_err(|error| Error::internal("reading the module", error))??;
        let manifest = Manifest::parse(&stored.manifest)
            .map_err(|error| Error::internal("reading a stored manifest", error))?;
        let agent = Arc::new(self.make_ready(stored, manifest, bytes).await?);
        // It may have been unloaded while it was made ready.
        self.describe(caller, &id, Some(&version))?;
        self.loaded.write().insert((tenant, id, version), Arc::clone(&agent));
        Ok(agent)
    }

    /// What the store knows of an agent.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub fn describe(
        &self,
        caller: &Caller,
        id: &AgentId,
        version: Option<&AgentVersion>,
    ) -> Result<StoredAgent, Error> {
        self.store.get(&caller.tenant, id, version)?.ok_or_else(|| not_found(id, version))
    }

    /// The tenant's agents, all versions, in order of id and version; at most `limit` of them, after
    /// `after`. The flag says whether a version is the active one.
    ///
    /// # Errors
    /// `INTERNAL` when the store cannot be read.
    pub fn list(
        &self,
        caller: &Caller,
        after: Option<&(AgentId, AgentVersion)>,
        limit: usize,
    ) -> Result<Vec<(StoredAgent, bool)>, Error> {
        let agents = self.store.list(&caller.tenant, after, limit)?;
        Ok(agents
            .into_iter()
            .map(|agent| {
                let active = self.is_active(&agent);
                (agent, active)
            })
            .collect())
    }

    /// Whether this is the version that runs where none is asked for.
    #[must_use]
    pub fn is_active(&self, agent: &StoredAgent) -> bool {
        self.store.active(&agent.tenant, &agent.id).as_ref() == Some(&agent.version)
    }

    /// Whether the agent, or the version of it, can be executed.
    ///
    /// # Errors
    /// `INTERNAL` when the store cannot be read.
    pub fn is_loaded(
        &self,
        caller: &Caller,
        id: &AgentId,
        version: Option<&AgentVersion>,
    ) -> Result<bool, Error> {
        Ok(self.store.get(&caller.tenant, id, version)?.is_some())
    }

    /// Removes an agent, or one version of it. When the active version goes, the newest of the rest
    /// becomes active. Executions that are running finish.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub async fn unload(
        &self,
        caller: &Caller,
        id: &AgentId,
        version: Option<&AgentVersion>,
    ) -> Result<Vec<StoredAgent>, Error> {
        let store = Arc::clone(&self.store);
        let (tenant, agent_id, wanted) = (Arc::clone(&caller.tenant), id.clone(), version.cloned());
        let removed = tokio::task::spawn_blocking(move || store.remove(&tenant, &agent_id, wanted.as_ref()))
            .await
            .map_err(|error| Error::internal("removing the agent", error))??;
        if removed.is_empty() {
            return Err(not_found(id, version));
        }
        let mut loaded = self.loaded.write();
        for agent in &removed {
            loaded.remove(&key(agent));
        }
        Ok(removed)
    }

    /// Makes a loaded version the active one.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    pub async fn activate(
        &self,
        caller: &Caller,
        id: &AgentId,
        version: &AgentVersion,
    ) -> Result<StoredAgent, Error> {
        let store = Arc::clone(&self.store);
        let (tenant, agent_id, wanted) = (Arc::clone(&caller.tenant), id.clone(), version.clone());
        let activated = tokio::task::spawn_blocking(move || store.activate(&tenant, &agent_id, &wanted))
            .await
            .map_err(|error| Error::internal("activating the version", error))??;
        activated.ok_or_else(|| not_found(id, Some(version)))
    }

    async fn make_ready(
        &self,
        stored: StoredAgent,
        manifest: Manifest,
        module_bytes: Bytes,
    ) -> Result<LoadedAgent, Error> {
        let budget = self.rules.budget(Some(&manifest))?;
        let loaded = self.runtime.load(module_bytes, budget.metering).await?;
        loaded.module.fits(budget.memory_bytes)?;
        let places = manifest.max_concurrent().map(|places| Pool::new(places, PoolConfig::default()));
        Ok(LoadedAgent { stored, manifest, module: loaded.module, origin: loaded.origin, places })
    }
}

fn key(agent: &StoredAgent) -> AgentKey {
    (Arc::clone(&agent.tenant), agent.id.clone(), agent.version.clone())
}

fn not_found(id: &AgentId, version: Option<&AgentVersion>) -> Error {
    let agent = version.map_or_else(|| id.to_string(), |version| format!("{id}@{version}"));
    Error::AgentNotFound { agent }
}

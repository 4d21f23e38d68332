//! The agents that can be executed: the durable store, and in memory the compiled modules of those
//! in use. What `load` acknowledged is in the store and survives a kill at any moment; what is in
//! memory can always be made again from it.

mod agent;
mod loading;
mod recent;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use mentat_manifest::{AgentId, AgentVersion, ByteCount, Manifest, ModuleDigest};
use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use mentat_runtime::security::policy::Rules;
use mentat_runtime::{Loaded, Module, Preparation, Runtime};
use parking_lot::{Mutex, RwLock};

pub use self::agent::{LoadedAgent, Program};
use self::recent::Recent;
use crate::container::{Containers, Image};
use crate::rollout::Rollout;
use crate::signatures::{Signatures, StandingCounts};
use crate::store::{AgentStore, StoredAgent, StoredRuntime};

pub use crate::store::OnConflict;

/// All agents of all tenants.
#[derive(Debug)]
pub struct Registry {
    store: Arc<AgentStore>,
    runtime: Arc<Runtime>,
    containers: Arc<Containers>,
    rollout: Arc<Rollout>,
    rules: Rules,
    signatures: Arc<Signatures>,
    /// What is kept in memory.
    room: MemoryRoom,
    /// Agents that left memory for others.
    evictions: AtomicU64,
    /// Counts agents that come into memory, so that the least recently used are known.
    clock: AtomicU64,
    loaded: RwLock<HashMap<AgentKey, Arc<LoadedAgent>>>,
    /// Those of them that were executed last.
    recent: Recent,
    /// Those that could not run when all were last looked at.
    refused: Mutex<HashSet<AgentKey>>,
    /// Whose turn it is to bring an agent into memory.
    opening: Mutex<HashMap<AgentKey, Weak<tokio::sync::Mutex<()>>>>,
}

/// How many agents are kept in memory, besides those that execute.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRoom {
    /// Agents at most.
    pub agents: usize,
    /// Bytes of their code that is mapped, at most; a module that several have counts once.
    pub code: ByteCount,
}

type AgentKey = (Arc<str>, AgentId, AgentVersion);

impl Registry {
    /// A registry over a store, which keeps so many agents in memory besides those that execute.
    #[must_use]
    pub fn new(
        store: Arc<AgentStore>,
        runtime: Arc<Runtime>,
        containers: Arc<Containers>,
        rollout: Arc<Rollout>,
        rules: Rules,
        signatures: Arc<Signatures>,
        room: MemoryRoom,
    ) -> Self {
        runtime.forget_all_but(&store.modules());
        Self {
            store,
            runtime,
            containers,
            rollout,
            rules,
            signatures,
            room,
            evictions: AtomicU64::new(0),
            clock: AtomicU64::new(0),
            loaded: RwLock::default(),
            recent: Recent::default(),
            refused: Mutex::default(),
            opening: Mutex::default(),
        }
    }

    /// What executes agents that have both a module and an image.
    #[must_use]
    pub fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    /// Who decides by signatures.
    #[must_use]
    pub fn signatures(&self) -> &Signatures {
        &self.signatures
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
        if let Some(version) = version {
            return self.get_version(caller, id, version.clone()).await;
        }
        if let Some(agent) = self.recent.get(&caller.tenant, id) {
            self.touch(&agent);
            return Ok(agent);
        }
        let since = self.recent.since();
        let active = self.store.active(&caller.tenant, id).ok_or_else(|| not_found(id, None))?;
        let agent = self.get_version(caller, id, active).await?;
        self.recent.put(&agent, since);
        Ok(agent)
    }

    async fn get_version(
        &self,
        caller: &Caller,
        id: &AgentId,
        version: AgentVersion,
    ) -> Result<Arc<LoadedAgent>, Error> {
        let key = (Arc::clone(&caller.tenant), id.clone(), version);
        if let Some(agent) = self.use_loaded(&key) {
            return Ok(agent);
        }
        // A box, since this is rare, and large: who waits for an agent otherwise does not carry the room for it.
        Box::pin(self.open(caller, key)).await
    }

    /// Brings a version of an agent into memory.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`.
    async fn open(&self, caller: &Caller, key: AgentKey) -> Result<Arc<LoadedAgent>, Error> {
        // One reads the module, the others wait for it.
        let turn = self.turn(&key);
        let _turn = turn.lock().await;
        // Again whenever the agent was replaced while it was made ready.
        loop {
            if let Some(agent) = self.use_loaded(&key) {
                return Ok(agent);
            }
            let stored = self.describe(caller, &key.1, Some(&key.2))?;
            let manifest = Manifest::parse(&stored.manifest)
                .map_err(|error| Error::internal("reading a stored manifest", error))?;
            if stored.runtime == StoredRuntime::Container {
                let name = manifest.image.as_deref().unwrap_or_default().into();
                let image = Image { name, id: stored.module };
                let agent = Arc::new(LoadedAgent::new(stored, manifest, Program::Image(image)));
                if self.keep(&agent)? {
                    return Ok(agent);
                }
                continue;
            }
            let how = self.preparation(&manifest)?;
            // Where compiled code is kept, the module itself is not read.
            let loaded = match self.runtime.load_kept(stored.module, how).await? {
                Some(loaded) => loaded,
                None => {
                    let (store, digest) = (Arc::clone(&self.store), stored.module);
                    let bytes = tokio::task::spawn_blocking(move || store.module(&digest))
                        .await
                        .map_err(|error| Error::internal("reading the module", error))??;
                    self.runtime.load_for(&caller.tenant, bytes, how).await?
                }
            };
            let agent = Arc::new(self.make_ready(stored, manifest, loaded)?);
            if self.keep(&agent)? {
                return Ok(agent);
            }
        }
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
                self.signatures.standing(&agent);
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
        self: &Arc<Self>,
        caller: &Caller,
        id: &AgentId,
        version: Option<&AgentVersion>,
    ) -> Result<Vec<StoredAgent>, Error> {
        let this = Arc::clone(self);
        let (tenant, agent_id, wanted) = (Arc::clone(&caller.tenant), id.clone(), version.cloned());
        // All of it, once begun: what has left the disk does not stay in memory because its caller went away.
        let remove = move || {
            let removed = this.store.remove(&tenant, &agent_id, wanted.as_ref())?;
            if removed.is_empty() {
                return Ok(removed);
            }
            let mut loaded = this.loaded.write();
            for agent in &removed {
                loaded.remove(&key(agent));
                this.refused.lock().remove(&key(agent));
            }
            drop(loaded);
            this.recent.forget();
            this.forget_unused(removed.iter().filter_map(StoredAgent::stored_module));
            Ok::<_, Error>(removed)
        };
        let removed = tokio::task::spawn_blocking(remove)
            .await
            .map_err(|error| Error::internal("removing the agent", error))??;
        if removed.is_empty() { Err(not_found(id, version)) } else { Ok(removed) }
    }

    /// Makes a loaded version the active one.
    ///
    /// # Errors
    /// `AGENT_NOT_FOUND`; `ATTESTATION_REJECTED` for one that could not be executed.
    pub async fn activate(
        self: &Arc<Self>,
        caller: &Caller,
        id: &AgentId,
        version: &AgentVersion,
    ) -> Result<StoredAgent, Error> {
        let agent = self.describe(caller, id, Some(version))?;
        self.signatures.admit(caller, &agent)?;
        let this = Arc::clone(self);
        let (tenant, agent_id, wanted) = (Arc::clone(&caller.tenant), id.clone(), version.clone());
        let over_signed = self.signatures.over_signed(&caller.tenant);
        let activate = move || {
            let activated = this.store.activate(&tenant, &agent_id, &wanted, over_signed);
            this.recent.forget();
            activated
        };
        let activated = tokio::task::spawn_blocking(activate)
            .await
            .map_err(|error| Error::internal("activating the version", error))?;
        if let Err(error) = &activated {
            self.signatures.record_refused(caller, &agent, Err(error.clone()))?;
        }
        activated?.ok_or_else(|| not_found(id, Some(version)))
    }

    /// Puts an agent into memory if it is what the store has by now; answers whether it is. Between the store and
    /// here it may have been replaced or unloaded, and what is in memory must not outlive that.
    fn keep(&self, agent: &Arc<LoadedAgent>) -> Result<bool, Error> {
        let mut loaded = self.loaded.write();
        let ours = &agent.stored;
        let current = self.store.get(&ours.tenant, &ours.id, Some(&ours.version))?;
        // What was not kept of the one may have been of the other.
        let same = current.is_some_and(|known| known.is_same(ours) && known.in_place_of == ours.in_place_of);
        if same {
            loaded.insert(key(ours), Arc::clone(agent));
            if ours.standing.last().refusal().is_none() {
                self.refused.lock().remove(&key(ours));
            }
            self.touch(agent);
            self.clock.fetch_add(1, Ordering::Relaxed);
        }
        // What was recent may have been replaced; and what only the recent ones hold is idle, and may leave memory below.
        self.recent.forget();
        while loaded.len() > self.room.agents || mapped(&loaded) > self.room.code {
            // One that executes stays: its own places are counted in it. So does the newest, which the caller holds.
            let idle = loaded.iter().filter(|(_, agent)| Arc::strong_count(agent) == 1);
            let oldest = idle.min_by_key(|(_, agent)| agent.used.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            loaded.remove(&oldest);
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
        Ok(same)
    }

    /// Finds out how every agent stands that is stored, so that those which may no longer run are told of before anybody asks for
    /// them; answers how many stand how. Takes some tenths of a millisecond for each that is signed.
    ///
    /// # Errors
    /// `INTERNAL` when the store cannot be read.
    pub fn review(&self) -> Result<StandingCounts, Error> {
        let (mut counts, mut refused) = (StandingCounts::default(), HashSet::new());
        for (tenant, id, version) in self.store.keys() {
            // One that was unloaded meanwhile is nobody's concern.
            if let Some(agent) = self.store.get(&tenant, &id, Some(&version))? {
                let standing = self.signatures.standing(&agent);
                counts = counts.with(&standing);
                if standing.refusal().is_some() {
                    refused.insert((tenant, id, version));
                }
            }
        }
        *self.refused.lock() = refused;
        Ok(counts)
    }

    /// How many of the agents in memory stand how, and how many of the others may not run, as was last found.
    #[must_use]
    pub fn standings(&self) -> StandingCounts {
        let loaded = self.loaded.read();
        let counts = loaded
            .values()
            .fold(StandingCounts::default(), |counts, agent| counts.with(&agent.stored.standing.last()));
        let others = self.refused.lock().iter().filter(|key| !loaded.contains_key(*key)).count() as u64;
        StandingCounts { refused: counts.refused.saturating_add(others), ..counts }
    }

    /// Agents that left memory to make room for others.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// The agent if it is in memory, marked as used just now.
    fn use_loaded(&self, key: &AgentKey) -> Option<Arc<LoadedAgent>> {
        let agent = self.loaded.read().get(key).cloned()?;
        self.touch(&agent);
        Some(agent)
    }

    /// Notes that it is used. The clock goes on when an agent comes into memory, which is when one may have to go: until then,
    /// executions on all threads only read what they share.
    fn touch(&self, agent: &LoadedAgent) {
        let now = self.clock.load(Ordering::Relaxed);
        if agent.used.load(Ordering::Relaxed) != now {
            agent.used.store(now, Ordering::Relaxed);
        }
    }

    fn turn(&self, key: &AgentKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut opening = self.opening.lock();
        if let Some(turn) = opening.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        opening.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        opening.insert(key.clone(), Arc::downgrade(&turn));
        turn
    }

    /// Compiled code goes with the last agent that has the module.
    fn forget_unused(&self, modules: impl Iterator<Item = ModuleDigest>) {
        let used = self.store.modules();
        for module in modules.filter(|module| !used.contains(module)) {
            self.runtime.forget(&module);
        }
    }

    /// How the code of an agent's module is made.
    fn preparation(&self, manifest: &Manifest) -> Result<Preparation, Error> {
        let metering = self.rules.budget(Some(manifest))?.metering;
        Ok(Preparation { metering, init: manifest.init() })
    }

    fn make_ready(
        &self,
        stored: StoredAgent,
        manifest: Manifest,
        loaded: Loaded,
    ) -> Result<LoadedAgent, Error> {
        let budget = self.rules.budget(Some(&manifest))?;
        loaded.module.fits(budget.memory_bytes)?;
        let program = Program::Module { module: loaded.module, origin: loaded.origin };
        Ok(LoadedAgent::new(stored, manifest, program))
    }
}

/// Bytes of code that are mapped for agents.
fn mapped(loaded: &HashMap<AgentKey, Arc<LoadedAgent>>) -> ByteCount {
    let modules: HashMap<*const Module, ByteCount> = loaded
        .values()
        .filter_map(|agent| agent.module())
        .map(|module| (Arc::as_ptr(module), module.mapped()))
        .collect();
    ByteCount(modules.values().fold(0, |sum, bytes| sum.saturating_add(bytes.0)))
}

fn key(agent: &StoredAgent) -> AgentKey {
    (Arc::clone(&agent.tenant), agent.id.clone(), agent.version.clone())
}

fn not_found(id: &AgentId, version: Option<&AgentVersion>) -> Error {
    let agent = version.map_or_else(|| id.to_string(), |version| format!("{id}@{version}"));
    Error::AgentNotFound { agent }
}

#[cfg(test)]
mod tests;

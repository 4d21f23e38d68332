//! Instances that are kept for the next execution of the same agent for the same tenant, where the manifest asks for it
//! (`instances: reuse`). What is kept is what the guest made of its memory; all of the host's is made anew each time.
//!
//! Invariant: an instance is used by one execution at a time, and comes back only from one that ran to its end. One that
//! trapped, was cut off or violated policy never does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use wasmtime::Store;

use super::live::Live;
use super::module::Linked;
use super::pool::Permit;
use crate::host::context::HostContext;
use crate::security::policy::AgentIdentity;

/// How many instances are kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmConfig {
    /// Instances of all agents that are kept while they wait; each takes a place. 0 for none: then every execution starts
    /// afresh, whatever manifests say.
    pub max_instances: u32,
    /// Instances of one agent for one tenant.
    pub per_agent: u32,
    /// Executions that one instance serves.
    pub max_uses: u32,
    /// Milliseconds that one waits for its next execution.
    pub idle_ms: u64,
}

/// How long demand is remembered.
const DEMAND_WINDOW: Duration = Duration::from_secs(10);
/// Executions of this and the last window from which on an agent is worth instances that are made ahead.
const HOT_EXECUTIONS: u32 = 8;

/// Instances that wait.
#[derive(Debug)]
pub(crate) struct WarmInstances {
    config: WarmConfig,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    agents: HashMap<AgentIdentity, Agent>,
    /// Instances of all of them that wait.
    waiting: usize,
}

/// One agent's, for one tenant.
#[derive(Debug, Default)]
struct Agent {
    /// The one that was used last is the last.
    waiting: Vec<WarmInstance>,
    busy: u32,
    /// Being made ahead.
    ahead: u32,
    /// The most that were busy at one time, in this window and in the one before.
    peak: u32,
    last_peak: u32,
    /// Executions that began in them.
    begun: u32,
    last_begun: u32,
    window: Option<Instant>,
    /// Whether its initialisation asks the host for anything, which only an execution may.
    needs_host: bool,
}

/// An instance that waits for an execution.
pub(crate) struct WarmInstance {
    pub(super) store: Store<HostContext>,
    pub(super) live: Live,
    pub(super) code: Arc<Linked>,
    pub(super) permit: Permit,
    /// Executions that it served.
    pub(super) uses: u32,
    pub(super) since: Instant,
}

impl Default for WarmConfig {
    fn default() -> Self {
        Self { max_instances: 100, per_agent: 8, max_uses: 10_000, idle_ms: 60_000 }
    }
}

impl WarmInstances {
    pub(crate) fn new(config: WarmConfig) -> Self {
        Self { config, kept: Mutex::default() }
    }

    /// Whether any are kept.
    pub(crate) fn is_on(&self) -> bool {
        self.config.max_instances > 0 && self.config.per_agent > 0
    }

    /// An execution of the agent begins: the instance that was used last, if there is one on this code.
    pub(crate) fn take(&self, agent: &AgentIdentity, code: &Arc<Linked>) -> Option<WarmInstance> {
        let mut gone = Vec::new();
        let mut kept = self.kept.lock();
        let Kept { agents, waiting } = &mut *kept;
        let own = agents.entry(agent.clone()).or_default();
        own.begin();
        let taken = loop {
            let Some(instance) = own.waiting.pop() else { break None };
            *waiting = waiting.saturating_sub(1);
            if Arc::ptr_eq(&instance.code, code) && instance.since.elapsed() < self.idle() {
                break Some(instance);
            }
            gone.push(instance);
        };
        // Taking down an instance takes a while, which others need not wait for.
        drop(kept);
        drop(gone);
        taken
    }

    /// An execution of the agent has ended. Its instance is kept, if it has one that may be.
    pub(crate) fn end(&self, agent: &AgentIdentity, instance: Option<WarmInstance>) {
        let instance = instance.filter(|instance| instance.uses < self.config.max_uses);
        let mut kept = self.kept.lock();
        let own = kept.agents.entry(agent.clone()).or_default();
        own.busy = own.busy.saturating_sub(1);
        let surplus = self.keep(kept, agent, instance);
        drop(surplus);
    }

    /// Whether the agent is asked for often, and was busier lately than it has instances for by now: one more is to be made
    /// ahead, and is counted from here on.
    pub(crate) fn wants_one(&self, agent: &AgentIdentity) -> bool {
        let mut kept = self.kept.lock();
        let is_room = kept.waiting < count(self.config.max_instances);
        let Some(own) = kept.agents.get_mut(agent) else { return false };
        own.turn();
        let there = own.waiting.len().saturating_add(count(own.busy)).saturating_add(count(own.ahead));
        let wanted = count(own.peak.max(own.last_peak).min(self.config.per_agent));
        let is_hot = own.begun.saturating_add(own.last_begun) >= HOT_EXECUTIONS;
        let wants = is_room && is_hot && !own.needs_host && there < wanted;
        own.ahead = own.ahead.saturating_add(wants.into());
        wants
    }

    /// One that was made ahead, or none where its initialisation asked the host for something.
    pub(crate) fn made_ahead(&self, agent: &AgentIdentity, instance: Option<WarmInstance>) {
        let mut kept = self.kept.lock();
        let own = kept.agents.entry(agent.clone()).or_default();
        own.ahead = own.ahead.saturating_sub(1);
        own.needs_host |= instance.is_none();
        let surplus = self.keep(kept, agent, instance);
        drop(surplus);
    }

    /// Puts an instance with the others while there is room; answers one for which there is none, with the lock given back.
    fn keep(
        &self,
        mut kept: MutexGuard<'_, Kept>,
        agent: &AgentIdentity,
        instance: Option<WarmInstance>,
    ) -> Option<WarmInstance> {
        let Kept { agents, waiting } = &mut *kept;
        let (Some(own), Some(instance)) = (agents.get_mut(agent), instance) else { return None };
        if *waiting >= count(self.config.max_instances) || own.waiting.len() >= count(self.config.per_agent) {
            return Some(instance);
        }
        own.waiting.push(instance);
        *waiting += 1;
        None
    }

    /// Gives up the instance that waits longest, so that another execution has its place; whether there was one.
    pub(crate) fn give_way(&self) -> bool {
        let given_up = {
            let mut kept = self.kept.lock();
            let Kept { agents, waiting } = &mut *kept;
            if *waiting == 0 {
                return false;
            }
            let oldest = agents
                .values_mut()
                .filter(|agent| !agent.waiting.is_empty())
                .min_by_key(|agent| agent.waiting.first().map(|instance| instance.since));
            *waiting -= 1;
            oldest.map(|agent| agent.waiting.remove(0))
        };
        given_up.is_some()
    }

    /// Takes down those that have waited for too long, and forgets agents that were not asked for lately.
    pub(crate) fn sweep(&self) {
        let mut gone = Vec::new();
        let mut kept = self.kept.lock();
        kept.agents.retain(|_, agent| {
            agent.turn();
            let idle =
                agent.waiting.iter().take_while(|instance| instance.since.elapsed() >= self.idle()).count();
            gone.extend(agent.waiting.drain(..idle));
            !agent.waiting.is_empty()
                || agent.busy > 0
                || agent.ahead > 0
                || agent.peak > 0
                || agent.last_peak > 0
        });
        kept.waiting = kept.waiting.saturating_sub(gone.len());
        drop(kept);
        drop(gone);
    }

    /// Instances that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.kept.lock().waiting
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.config.idle_ms)
    }
}

impl Agent {
    fn begin(&mut self) {
        self.turn();
        self.busy = self.busy.saturating_add(1);
        self.peak = self.peak.max(self.busy);
        self.begun = self.begun.saturating_add(1);
    }

    /// Begins a new window where the last is over.
    fn turn(&mut self) {
        let window = *self.window.get_or_insert_with(Instant::now);
        let windows = window.elapsed().as_secs() / DEMAND_WINDOW.as_secs();
        if windows > 0 {
            (self.last_peak, self.last_begun) =
                if windows == 1 { (self.peak, self.begun) } else { (self.busy, 0) };
            (self.peak, self.begun) = (self.busy, 0);
            self.window = Some(Instant::now());
        }
    }
}

impl std::fmt::Debug for WarmInstance {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WarmInstance").field("uses", &self.uses).finish_non_exhaustive()
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

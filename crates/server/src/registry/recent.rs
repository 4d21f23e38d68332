//! The agents that were executed last, found without a lock and without a copy of their names: what nearly every execution
//! asks the registry for. What is here is true as long as nothing has changed since it was put here, in the store or in
//! memory; each change forgets all of it, and each agent then is looked up once more.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use hashbrown::DefaultHashBuilder;
use mentat_manifest::AgentId;

use super::LoadedAgent;

/// How many are found so. Of two whose names fall on one slot, the one that was there first has it, and the other is looked
/// up each time.
const SLOTS: usize = 256;

/// The agents that were executed last, by tenant and id: the active version of each.
#[derive(Debug)]
pub(super) struct Recent {
    slots: [ArcSwapOption<Found>; SLOTS],
    /// Changes so far.
    changes: AtomicU64,
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Found {
    agent: Arc<LoadedAgent>,
    /// The changes before it was looked up.
    changes: u64,
}

/// When something was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Since(u64);

impl Default for Recent {
    fn default() -> Self {
        Self {
            slots: std::array::from_fn(|_| ArcSwapOption::empty()),
            changes: AtomicU64::new(0),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl Recent {
    /// The active version of an agent, where it was put here and nothing has changed since.
    pub(super) fn get(&self, tenant: &str, id: &AgentId) -> Option<Arc<LoadedAgent>> {
        let found = self.slot(tenant, id)?.load();
        let Found { agent, changes } = found.as_deref()?;
        let is_it = *agent.stored.tenant == *tenant && agent.stored.id == *id;
        (is_it && *changes == self.changes.load(Ordering::Acquire)).then(|| Arc::clone(agent))
    }

    /// What is to be said of what is looked up from now on.
    pub(super) fn since(&self) -> Since {
        // In one order with what is put and forgotten: of a change, either who puts knows or who forgets sees what was put.
        Since(self.changes.load(Ordering::SeqCst))
    }

    /// Puts the active version of an agent here, as it was looked up since then.
    pub(super) fn put(&self, agent: &Arc<LoadedAgent>, since: Since) {
        let Some(slot) = self.slot(&agent.stored.tenant, &agent.stored.id) else { return };
        let is_taken = slot.load().as_ref().is_some_and(|found| found.changes == since.0);
        if is_taken || self.since() != since {
            return;
        }
        slot.store(Some(Arc::new(Found { agent: Arc::clone(agent), changes: since.0 })));
        // It may have left memory meanwhile, and is not to be held by this alone.
        if self.since() != since {
            slot.store(None);
        }
    }

    /// Forgets all, after a change.
    pub(super) fn forget(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        for slot in &self.slots {
            // Most are empty; that is quicker seen than written.
            if slot.load().is_some() {
                slot.store(None);
            }
        }
    }

    fn slot(&self, tenant: &str, id: &AgentId) -> Option<&ArcSwapOption<Found>> {
        let hash = self.hasher.hash_one((tenant, id.as_str()));
        self.slots.get(usize::try_from(hash % SLOTS as u64).ok()?)
    }
}

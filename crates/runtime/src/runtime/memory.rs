//! The linear memory of all executions together: charged before a memory grows, given back when its execution ends.
//! What is charged is what memories hold by their own count, touched or not, so that a machine which has as much never
//! has to swap for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mentat_manifest::ByteCount;

/// Bytes that all executions may have together, and have.
#[derive(Debug, Default)]
pub(crate) struct MemoryBudget {
    limit: u64,
    used: AtomicU64,
}

/// What one execution has of the budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct MemoryShare {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl MemoryBudget {
    pub(crate) fn new(limit: ByteCount) -> Self {
        Self { limit: limit.0, used: AtomicU64::new(0) }
    }

    /// What all may have together.
    pub(crate) fn limit(&self) -> ByteCount {
        ByteCount(self.limit)
    }

    /// What all have now.
    pub(crate) fn used(&self) -> ByteCount {
        ByteCount(self.used.load(Ordering::Relaxed))
    }
}

impl MemoryShare {
    /// Nothing yet.
    pub(crate) fn of(budget: Arc<MemoryBudget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// The budget that this is a share of.
    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// Takes so many bytes more, if they are there.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.budget.limit);
        if self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return false;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_has_another_gets_when_it_is_gone() {
        let budget = Arc::new(MemoryBudget::new(ByteCount(100)));
        let (mut one, mut other) =
            (MemoryShare::of(Arc::clone(&budget)), MemoryShare::of(Arc::clone(&budget)));
        assert!(one.take(60) && other.take(40) && !other.take(1));
        drop(one);
        assert!(!other.take(61) && other.take(60));
        assert_eq!(budget.used(), ByteCount(100));
        drop(other);
        assert_eq!(budget.used(), ByteCount(0));
        assert!(!MemoryShare::of(budget).take(u64::MAX));
    }
}

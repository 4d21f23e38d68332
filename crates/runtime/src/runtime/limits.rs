//! The resource limiter of one execution: counts memory and tables as they grow and refuses what is
//! over the budget. A refusal is remembered, so that the trap which usually follows is reported as
//! what it is.

use mentat_manifest::ByteCount;
use wasmtime::ResourceLimiter;

use super::memory::MemoryShare;
use crate::error::Shortage;

/// Instances in one store at most; a component is several.
const MAX_INSTANCES: usize = 64;

/// Counts what one execution's instance takes.
#[derive(Debug)]
pub(crate) struct ExecutionLimiter {
    memory_limit: usize,
    /// What is given of that here; more is given elsewhere.
    memory_cap: usize,
    /// Whether more was asked for.
    is_capped: bool,
    memory: usize,
    memory_peak: usize,
    /// What it has of the memory of all executions.
    share: MemoryShare,
    table_limit: usize,
    table_elements: usize,
    refused: Option<Shortage>,
}

impl ExecutionLimiter {
    pub(crate) fn new(memory_limit: ByteCount, table_elements: u32, share: MemoryShare) -> Self {
        Self {
            share,
            memory_limit: usize::try_from(memory_limit.0).unwrap_or(usize::MAX),
            memory_cap: usize::MAX,
            is_capped: false,
            memory: 0,
            memory_peak: 0,
            table_limit: usize::try_from(table_elements).unwrap_or(usize::MAX),
            table_elements: 0,
            refused: None,
        }
    }

    /// Largest sum of all linear memories so far, in bytes.
    pub(crate) fn memory_peak(&self) -> ByteCount {
        ByteCount(self.memory_peak as u64)
    }

    /// Lets memories grow to this much together.
    pub(crate) fn raise(&mut self, memory_limit: ByteCount) {
        let limit = usize::try_from(memory_limit.0).unwrap_or(usize::MAX);
        self.memory_limit = self.memory_limit.max(limit);
    }

    /// Gives memories this much together at most, where the execution can be begun anew that needs more: see
    /// [`ExecutionLimiter::is_capped`].
    pub(crate) fn cap(&mut self, memory: ByteCount) {
        self.memory_cap = usize::try_from(memory.0).unwrap_or(usize::MAX);
    }

    /// Whether a growth was refused that would be allowed without the cap.
    pub(crate) fn is_capped(&self) -> bool {
        self.is_capped
    }

    /// Takes over what an instance has that is used again, if this execution may have as much.
    pub(crate) fn inherit(&mut self, from: &mut Self) -> bool {
        if from.memory > self.memory_limit {
            return false;
        }
        std::mem::swap(&mut self.share, &mut from.share);
        (self.memory, self.memory_peak) = (from.memory, from.memory);
        self.table_elements = from.table_elements;
        true
    }

    /// What memories may grow to together.
    pub(crate) fn limit(&self) -> ByteCount {
        ByteCount(self.memory_limit as u64)
    }

    /// What a growth was last refused for want of, if any was.
    pub(crate) fn refused(&self) -> Option<Shortage> {
        self.refused
    }
}

impl ResourceLimiter for ExecutionLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growing = desired.saturating_sub(current);
        let total = self.memory.saturating_add(growing);
        if total > self.memory_limit {
            self.refused = Some(Shortage::Memory(ByteCount(self.memory_limit as u64)));
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own maximum: the guest knew, so this is no refusal of ours.
            return Ok(false);
        }
        if total > self.memory_cap {
            self.is_capped = true;
            return Ok(false);
        }
        if !self.share.take(growing as u64) {
            self.refused = Some(Shortage::AllMemory(self.share.budget().limit()));
            return Ok(false);
        }
        self.memory = total;
        self.memory_peak = self.memory_peak.max(total);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // Told as well of growth beyond what 32 bits can address, which `memory_growing` is never asked for: what was
        // counted stays counted, or a guest could have it given back as often as it likes.
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > self.table_limit {
            self.refused = Some(Shortage::TableElements(self.table_limit));
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::runtime::memory::MemoryBudget;

    fn limiter() -> ExecutionLimiter {
        let budget = Arc::new(MemoryBudget::new(ByteCount(150)));
        ExecutionLimiter::new(ByteCount(100), 10, MemoryShare::of(budget))
    }

    #[test]
    fn grows_no_further_than_the_memory_of_all_executions() {
        let budget = Arc::new(MemoryBudget::new(ByteCount(150)));
        let new = || ExecutionLimiter::new(ByteCount(100), 10, MemoryShare::of(Arc::clone(&budget)));
        let (mut one, mut other) = (new(), new());
        assert!(one.memory_growing(0, 100, None).unwrap());
        assert!(!other.memory_growing(0, 51, None).unwrap());
        assert_eq!(other.refused(), Some(Shortage::AllMemory(ByteCount(150))));
        drop(one);
        assert!(other.memory_growing(0, 51, None).unwrap());
    }

    #[test]
    fn counts_all_memories_together_and_remembers_a_refusal() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.refused(), None);
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert_eq!(limiter.refused(), Some(Shortage::Memory(ByteCount(100))));
        assert_eq!(limiter.memory_peak(), ByteCount(100));
    }

    #[test]
    fn more_than_is_given_here_is_told_whatever_is_refused_besides() {
        let mut limiter = limiter();
        limiter.cap(ByteCount(50));
        assert!(limiter.memory_growing(0, 50, None).unwrap());
        assert!(!limiter.memory_growing(50, 101, None).unwrap());
        assert!(!limiter.memory_growing(50, 60, Some(55)).unwrap());
        assert!(!limiter.is_capped(), "it would have been refused without");
        assert!(!limiter.memory_growing(50, 60, None).unwrap());
        assert!(!limiter.table_growing(0, 11, None).unwrap());
        assert!(limiter.is_capped());
    }

    #[test]
    fn growth_beyond_the_modules_own_maximum_is_not_our_refusal() {
        let mut limiter = limiter();
        assert!(!limiter.memory_growing(0, 60, Some(50)).unwrap());
        assert_eq!(limiter.refused(), None);
    }

    #[test]
    fn growth_that_fails_gives_nothing_back() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("beyond 4 GiB")).unwrap();
        assert!(!limiter.memory_growing(60, 120, None).unwrap());
    }

    #[test]
    fn refuses_table_elements_over_the_limit() {
        let mut limiter = limiter();
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(10, 11, None).unwrap());
        assert_eq!(limiter.refused(), Some(Shortage::TableElements(10)));
    }
}

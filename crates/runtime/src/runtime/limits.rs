//! The resource limiter of one execution: counts memory and tables as they grow and refuses what is
//! over the budget. A refusal is remembered, so that the trap which usually follows is reported as
//! what it is.

use mentat_manifest::ByteCount;
use wasmtime::ResourceLimiter;

use crate::error::Shortage;

/// Instances in one store at most; a component is several.
const MAX_INSTANCES: usize = 64;

/// Counts what one execution's instance takes.
#[derive(Debug)]
pub(crate) struct ExecutionLimiter {
    memory_limit: usize,
    memory: usize,
    memory_peak: usize,
    growing: usize,
    table_limit: usize,
    table_elements: usize,
    refused: Option<Shortage>,
}

impl ExecutionLimiter {
    pub(crate) fn new(memory_limit: ByteCount, table_elements: u32) -> Self {
        Self {
            memory_limit: usize::try_from(memory_limit.0).unwrap_or(usize::MAX),
            memory: 0,
            memory_peak: 0,
            growing: 0,
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
        self.growing = desired.saturating_sub(current);
        let total = self.memory.saturating_add(self.growing);
        if total > self.memory_limit {
            self.refused = Some(Shortage::Memory(ByteCount(self.memory_limit as u64)));
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own maximum: the guest knew, so this is no refusal of ours.
            return Ok(false);
        }
        self.memory = total;
        self.memory_peak = self.memory_peak.max(total);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory = self.memory.saturating_sub(self.growing);
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
    use super::*;

    #[test]
    fn counts_all_memories_together_and_remembers_a_refusal() {
        let mut limiter = ExecutionLimiter::new(ByteCount(100), 10);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.refused(), None);
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert_eq!(limiter.refused(), Some(Shortage::Memory(ByteCount(100))));
        assert_eq!(limiter.memory_peak(), ByteCount(100));
    }

    #[test]
    fn growth_beyond_the_modules_own_maximum_is_not_our_refusal() {
        let mut limiter = ExecutionLimiter::new(ByteCount(100), 10);
        assert!(!limiter.memory_growing(0, 60, Some(50)).unwrap());
        assert_eq!(limiter.refused(), None);
    }

    #[test]
    fn gives_back_what_could_not_be_mapped() {
        let mut limiter = ExecutionLimiter::new(ByteCount(100), 10);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("mmap")).unwrap();
        assert!(limiter.memory_growing(0, 100, None).unwrap());
    }

    #[test]
    fn refuses_table_elements_over_the_limit() {
        let mut limiter = ExecutionLimiter::new(ByteCount(100), 10);
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(10, 11, None).unwrap());
        assert_eq!(limiter.refused(), Some(Shortage::TableElements(10)));
    }
}

//! What rises and falls behind the dispatcher, for the metrics.

use mentat_manifest::ByteCount;
use mentat_runtime::MediaCounts;

use super::Dispatcher;
use crate::telemetry::ContainerLevels;

impl Dispatcher {
    /// Executions that run now, and how many can.
    #[must_use]
    pub fn places(&self) -> (u32, u32) {
        (self.runtime.pool().active(), self.runtime.pool().size())
    }

    /// Bytes of linear memory that all executions have now, and may have together.
    #[must_use]
    pub fn memory(&self) -> (ByteCount, ByteCount) {
        self.runtime.memory()
    }

    /// What there is of containers.
    #[must_use]
    pub fn containers(&self) -> ContainerLevels {
        self.containers.levels()
    }

    /// What happened to objects of the media store.
    pub fn media_counts(&self) -> MediaCounts {
        self.runtime.media_counts()
    }

    /// Instances that wait for the next execution of their agent.
    #[must_use]
    pub fn warm_instances(&self) -> usize {
        self.runtime.warm_instances()
    }

    /// Agents that left memory, and artifacts that left the disk, for others.
    #[must_use]
    pub fn evictions(&self) -> (u64, u64) {
        (self.registry.evictions(), self.runtime.evictions())
    }
}

//! How many containers are kept for the next execution of their agent, and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The containers that are kept for agents whose manifests say `instances: reuse`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmContainersConfig {
    /// Containers of all agents that wait, besides those that execute; 0 for none.
    pub max_containers: u32,
    /// Containers of one agent for one tenant.
    pub per_agent: u32,
    /// Executions that one container serves.
    pub max_uses: u32,
    /// Milliseconds that one waits for its next execution.
    pub idle_ms: u64,
}

impl Default for WarmContainersConfig {
    fn default() -> Self {
        Self { max_containers: 16, per_agent: 4, max_uses: 1_000, idle_ms: 60_000 }
    }
}

impl WarmContainersConfig {
    /// How long one waits for its next execution.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
}

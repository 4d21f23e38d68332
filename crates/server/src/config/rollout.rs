//! What executes agents that have both a module and an image.

use mentat_manifest::AgentId;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::rollout::Rollout;

/// All of them.
const ALL_PERCENT: u32 = 100;

/// What executes agents that have both a module and an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSection {
    /// Of a hundred executions, those of modules.
    pub percent: u32,
    /// Agents of which all executions are the module's.
    pub allow: Vec<AgentId>,
    /// Agents of which none are.
    pub deny: Vec<AgentId>,
}

impl Default for RolloutSection {
    fn default() -> Self {
        Self { percent: ALL_PERCENT, allow: Vec::new(), deny: Vec::new() }
    }
}

impl RolloutSection {
    /// # Errors
    /// For more than all, and an agent that is in both lists.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.percent > ALL_PERCENT {
            return Err(ConfigError(format!(
                "`rollout.percent` is {}; it is a number from 0, images alone, to {ALL_PERCENT}, modules alone",
                self.percent
            )));
        }
        if let Some(agent) = self.allow.iter().find(|agent| self.deny.contains(agent)) {
            return Err(ConfigError(format!(
                "agent `{agent}` is in `rollout.allow` and in `rollout.deny`; leave it in one of them"
            )));
        }
        Ok(())
    }

    /// Who is executed as what.
    #[must_use]
    pub fn rollout(&self) -> Rollout {
        Rollout::new(self.percent, self.allow.iter().cloned(), self.deny.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_all_and_contradictions_are_refused() {
        let section = RolloutSection::default;
        section().check().unwrap();
        let refused = |section: RolloutSection| section.check().unwrap_err().to_string();
        assert!(refused(RolloutSection { percent: 101, ..section() }).contains("`rollout.percent` is 101"));
        let both = vec!["a.b".parse().unwrap()];
        let refused = refused(RolloutSection { allow: both.clone(), deny: both, ..section() });
        assert!(refused.contains("`a.b` is in `rollout.allow`"), "{refused}");
    }
}

//! What executes an agent that has both a module that runs here and an image: so many of a hundred executions its module,
//! the rest its image, and of agents that the operator lists all of them the one or the other. Pure.
//!
//! Knows nothing of grants: an image that is chosen is given what policies permit to it and to the module in whose place it is
//! executed, so that nothing is gained by the choice.

use std::collections::HashSet;

use mentat_manifest::{AgentId, ModuleDigest, RuntimeKind};
use mentat_runtime::model::ExecutionId;

/// Into how many parts executions fall.
const PARTS: u32 = 100;
/// Hexadecimal digits of the digest that tell the part of an execution.
const DIGITS: usize = 8;

/// Who is executed as what.
#[derive(Debug)]
pub struct Rollout {
    /// Of a hundred executions, those of modules.
    percent: u32,
    modules: HashSet<AgentId>,
    images: HashSet<AgentId>,
}

/// What was chosen for an execution, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What executes it.
    pub runtime: RuntimeKind,
    /// Why.
    pub reason: ChoiceReason,
}

/// Why an execution is the module's or the image's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChoiceReason {
    /// The operator has listed the agent.
    Listed,
    /// The execution is in the one part or the other.
    Percent,
    /// The container engine does not answer.
    EngineAway,
}

impl ChoiceReason {
    /// As metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Percent => "percent",
            Self::EngineAway => "engine_away",
        }
    }
}

impl Default for Rollout {
    /// Modules alone.
    fn default() -> Self {
        Self::new(PARTS, [], [])
    }
}

impl Rollout {
    /// A rollout by which so many of a hundred executions are the module's; all of the agents in `modules`, none of those in
    /// `images`.
    #[must_use]
    pub fn new(
        percent: u32,
        modules: impl IntoIterator<Item = AgentId>,
        images: impl IntoIterator<Item = AgentId>,
    ) -> Self {
        Self { percent, modules: modules.into_iter().collect(), images: images.into_iter().collect() }
    }

    /// Whether any execution of the agent can be its image's.
    #[must_use]
    pub fn may_take_image(&self, agent: &AgentId) -> bool {
        !self.modules.contains(agent) && (self.percent < PARTS || self.images.contains(agent))
    }

    /// What executes an agent this time. By the execution's id alone, so that it can be told afterwards, and so that those
    /// of a smaller share are among those of a larger one.
    #[must_use]
    pub fn choose(&self, agent: &AgentId, execution: ExecutionId) -> Choice {
        let (is_module, reason) = if self.modules.contains(agent) {
            (true, ChoiceReason::Listed)
        } else if self.images.contains(agent) {
            (false, ChoiceReason::Listed)
        } else {
            (part(execution) < self.percent, ChoiceReason::Percent)
        };
        let runtime = if is_module { RuntimeKind::Wasm } else { RuntimeKind::Container };
        Choice { runtime, reason }
    }
}

/// The part that an execution is in: the first digits of the SHA-256 of its id, as a number, by the remainder.
fn part(execution: ExecutionId) -> u32 {
    let digest = ModuleDigest::of(execution.to_string().as_bytes()).hex();
    let number = digest.get(..DIGITS).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    number.unwrap_or_default() % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> AgentId {
        text.parse().unwrap()
    }

    fn rollout(percent: u32) -> Rollout {
        Rollout::new(percent, [id("always.module")], [id("always.image")])
    }

    #[test]
    fn shares_are_kept_and_the_smaller_one_is_part_of_the_larger() {
        let executions: Vec<ExecutionId> = (0..4_000).map(|_| ExecutionId::new()).collect();
        let modules = |percent: u32| -> Vec<bool> {
            let rollout = rollout(percent);
            let choose = |execution: &ExecutionId| rollout.choose(&id("a.b"), *execution).runtime;
            executions.iter().map(|execution| choose(execution) == RuntimeKind::Wasm).collect()
        };
        let count = |chosen: &[bool]| chosen.iter().filter(|chosen| **chosen).count();
        assert_eq!((count(&modules(0)), count(&modules(100))), (0, 4_000));
        let (few, many) = (modules(20), modules(60));
        assert!((650..950).contains(&count(&few)) && (2_200..2_600).contains(&count(&many)));
        assert!(few.iter().zip(&many).all(|(few, many)| *many || !few));
    }

    #[test]
    fn the_part_of_an_execution_can_be_computed_by_anyone() {
        // `printf %s ID | sha256sum | head -c 8`, as a number, by the remainder of 100.
        let execution = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(part(execution), 16);
    }

    #[test]
    fn who_is_listed_is_executed_as_listed_whatever_the_share() {
        for percent in [0, 50, 100] {
            let chosen = |agent: &str| rollout(percent).choose(&id(agent), ExecutionId::new());
            let listed = |runtime| Choice { runtime, reason: ChoiceReason::Listed };
            assert_eq!(chosen("always.module"), listed(RuntimeKind::Wasm));
            assert_eq!(chosen("always.image"), listed(RuntimeKind::Container));
            assert!(!rollout(percent).may_take_image(&id("always.module")));
            assert!(rollout(percent).may_take_image(&id("always.image")));
            assert_eq!(rollout(percent).may_take_image(&id("a.b")), percent < 100);
        }
        assert!(!Rollout::default().may_take_image(&id("a.b")));
    }
}

//! Where an execution takes place: chosen when it begins, among what its agent has, and kept to until its end.

use std::sync::Arc;

use mentat_manifest::{ModuleDigest, RuntimeKind};
use mentat_runtime::Module;
use mentat_runtime::model::ExecutionId;
use mentat_runtime::security::authority::RunsFor;

use super::Dispatcher;
use crate::container::{ContainerAgent, Image};
use crate::registry::{LoadedAgent, Program};
use crate::rollout::{Choice, ChoiceReason};

/// An agent, and what executes it this time.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) agent: Arc<LoadedAgent>,
    pub(super) runtime: RuntimeKind,
}

/// Where an execution takes place.
pub(super) enum Place<'a> {
    /// In this process, in a sandbox of the engine for WebAssembly.
    Wasm(&'a Module),
    /// In a container.
    Container(ContainerAgent<'a>),
}

impl Dispatcher {
    /// Chooses what executes an agent. Where it has a module that runs here and an image, that is the rollout's choice, and
    /// the module's turn while the container engine is away, but where the operator has listed the agent for its image.
    pub(super) fn choose(&self, agent: Arc<LoadedAgent>, execution: ExecutionId) -> Placed {
        let runtime = match (&agent.program, &agent.image) {
            (Program::Image(_), _) => RuntimeKind::Container,
            (Program::Module { .. }, None) => RuntimeKind::Wasm,
            (Program::Module { .. }, Some(_)) => {
                let mut choice = self.registry.rollout().choose(&agent.stored.id, execution);
                // Whose module the operator will not have has no other place.
                let may_move = choice.reason != ChoiceReason::Listed;
                if choice.runtime == RuntimeKind::Container && may_move && !self.containers.is_up() {
                    choice = Choice { runtime: RuntimeKind::Wasm, reason: ChoiceReason::EngineAway };
                }
                self.metrics.chosen(choice);
                choice.runtime
            }
        };
        Placed { agent, runtime }
    }
}

impl Placed {
    /// What executes it, and with what.
    pub(super) fn place(&self) -> Place<'_> {
        let manifest = &self.agent.manifest;
        match &self.agent.program {
            Program::Image(image) => Place::Container(ContainerAgent { image, manifest }),
            Program::Module { module, .. } => match self.image() {
                Some(image) => Place::Container(ContainerAgent { image, manifest }),
                None => Place::Wasm(module),
            },
        }
    }

    /// The digest of what is executed, which is what policies are asked about and records tell of.
    pub(super) fn digest(&self) -> &ModuleDigest {
        self.image().map_or(&self.agent.stored.module, |image| &image.id)
    }

    /// In whose place it is executed: an image can be taken for a module by the rollout, or when the agent is loaded. Policies
    /// are asked about that module as well.
    pub(super) fn runs_for(&self) -> RunsFor<'_> {
        let LoadedAgent { stored, manifest, program, .. } = &*self.agent;
        match (program, &stored.in_place_of) {
            (Program::Module { .. }, _) => match self.image() {
                Some(_) => RunsFor::Module(&stored.module),
                None => RunsFor::Itself,
            },
            (Program::Image(_), Some(module)) => RunsFor::Module(module),
            // Stored before the module's digest was.
            (Program::Image(_), None) if manifest.runtime_kind() == RuntimeKind::Wasm => RunsFor::Unknown,
            (Program::Image(_), None) => RunsFor::Itself,
        }
    }

    /// The image that is executed in place of its module.
    fn image(&self) -> Option<&Image> {
        self.agent.image.as_ref().filter(|_| self.runtime == RuntimeKind::Container)
    }
}

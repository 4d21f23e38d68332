//! Where an execution takes place: chosen when it begins, among what its agent has, and kept to until its end.

use std::sync::Arc;

use mentat_manifest::{ModuleDigest, RuntimeKind};
use mentat_runtime::Module;
use mentat_runtime::error::Error;
use mentat_runtime::model::ExecutionId;
use mentat_runtime::security::authority::LastCase;

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

    /// The module in whose place an image is executed: by the rollout, or since it could not run here when the agent was
    /// loaded. Policies are asked about that one as well.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where the agent was stored before that module's digest was: nobody could be asked about it.
    pub(super) fn in_place_of(&self) -> Result<Option<&ModuleDigest>, Error> {
        let LoadedAgent { stored, manifest, program, .. } = &*self.agent;
        match (program, &stored.in_place_of) {
            (Program::Module { .. }, _) => Ok(self.image().map(|_| &stored.module)),
            (Program::Image(_), None) if manifest.runtime_kind() == RuntimeKind::Wasm => {
                let message = format!(
                    "the image of agent `{}` {} is executed in place of a module whose digest was not kept when the agent \
                     was loaded, so that policies cannot be asked about it; load the agent again",
                    stored.id, stored.version
                );
                Err(Error::InvalidRequest { message })
            }
            (Program::Image(_), module) => Ok(module.as_ref()),
        }
    }

    /// What was found of it when it applied for an execution before.
    pub(super) fn last_case(&self) -> &LastCase {
        match self.runtime {
            RuntimeKind::Wasm => &self.agent.last_cases.wasm,
            RuntimeKind::Container => &self.agent.last_cases.container,
        }
    }

    /// The image that is executed in place of its module.
    fn image(&self) -> Option<&Image> {
        self.agent.image.as_ref().filter(|_| self.runtime == RuntimeKind::Container)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use mentat_manifest::Manifest;
    use mentat_runtime::error::Reason;

    use super::*;
    use crate::signatures::LastStanding;
    use crate::store::{StoredAgent, StoredRuntime};

    /// An agent whose image is executed, as it was stored.
    fn placed(program: &str, in_place_of: Option<ModuleDigest>) -> Placed {
        let text = format!("id: a.b\nversion: 1.0.0\n{program}\nimage: localhost/a:1\n");
        let manifest = Manifest::parse(&text).unwrap();
        let image = Image { name: "localhost/a:1".into(), id: ModuleDigest::of(b"image") };
        let stored = StoredAgent {
            tenant: "t".into(),
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            manifest: text,
            module: image.id,
            runtime: StoredRuntime::Container,
            image: None,
            in_place_of,
            attestation: None,
            loaded_at: UNIX_EPOCH,
            standing: LastStanding::default(),
        };
        let agent = Arc::new(LoadedAgent::new(stored, manifest, Program::Image(image)));
        Placed { agent, runtime: RuntimeKind::Container }
    }

    #[test]
    fn an_image_in_place_of_a_module_that_nobody_knows_is_not_executed() {
        let (module, both) = (ModuleDigest::of(b"module"), "runtime: wasm\nmodule: agent.wasm");
        assert_eq!(placed("runtime: container", None).in_place_of().unwrap(), None);
        assert_eq!(placed(both, Some(module)).in_place_of().unwrap(), Some(&module));
        let refused = placed(both, None);
        let refused = refused.in_place_of().unwrap_err();
        assert_eq!(refused.reason(), Reason::InvalidRequest);
        assert!(refused.to_string().ends_with("; load the agent again"), "{refused}");
    }
}

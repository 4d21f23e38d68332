//! Where an execution takes place, once it is decided on.

use mentat_runtime::Module;

use crate::container::ContainerAgent;
use crate::registry::{LoadedAgent, Program};

/// Where an execution takes place.
pub(super) enum Place<'a> {
    /// In this process, in a sandbox of the engine for WebAssembly.
    Wasm(&'a Module),
    /// In a container.
    Container(ContainerAgent<'a>),
}

impl<'a> Place<'a> {
    /// The place for an agent.
    pub(super) fn choose(agent: &'a LoadedAgent) -> Self {
        match &agent.program {
            Program::Module { module, .. } => Self::Wasm(module),
            Program::Image(image) => Self::Container(ContainerAgent { image, manifest: &agent.manifest }),
        }
    }
}

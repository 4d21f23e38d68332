//! An agent in memory, ready to execute.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mentat_manifest::Manifest;
use mentat_runtime::security::authority::LastCase;
use mentat_runtime::{CodeOrigin, Module, Pool, PoolConfig};

use crate::container::Image;
use crate::store::StoredAgent;

/// An agent ready to execute.
#[derive(Debug)]
pub struct LoadedAgent {
    /// What the store knows of it.
    pub stored: StoredAgent,
    /// Its manifest.
    pub manifest: Manifest,
    /// What is executed.
    pub program: Program,
    /// Its image, where it has a module as well and the rollout may have it executed in that one's place.
    pub image: Option<Image>,
    /// Its own places, where its manifest sets `resources.max_concurrent`.
    pub places: Option<Pool>,
    /// What was last found of it by who decides, for each of what can execute it.
    pub(crate) last_cases: LastCases,
    /// When it was last asked for, on the registry's own clock.
    pub(super) used: AtomicU64,
}

/// What was last found of an agent by who decides.
#[derive(Debug, Default)]
pub(crate) struct LastCases {
    pub(crate) wasm: LastCase,
    pub(crate) container: LastCase,
}

/// What is executed of an agent.
#[derive(Debug)]
pub enum Program {
    /// Its module.
    Module {
        /// Compiled and linked.
        module: Arc<Module>,
        /// Where its code came from when it was brought into memory.
        origin: CodeOrigin,
    },
    /// Its image, which the container engine has.
    Image(Image),
}

impl LoadedAgent {
    pub(crate) fn new(stored: StoredAgent, manifest: Manifest, program: Program) -> Self {
        let places = manifest
            .max_concurrent()
            .map(|places| Pool::new("executions of this agent", places, PoolConfig::default()));
        let name = || manifest.image.as_deref().unwrap_or_default().into();
        let image = stored.image.map(|id| Image { name: name(), id });
        let last_cases = LastCases::default();
        Self { stored, manifest, program, image, places, last_cases, used: AtomicU64::new(0) }
    }

    /// Its module, where that is what is executed.
    #[must_use]
    pub fn module(&self) -> Option<&Arc<Module>> {
        match &self.program {
            Program::Module { module, .. } => Some(module),
            Program::Image(_) => None,
        }
    }

    /// Where its code came from when it was brought into memory; an image is in the container engine.
    #[must_use]
    pub fn origin(&self) -> Option<CodeOrigin> {
        match &self.program {
            Program::Module { origin, .. } => Some(*origin),
            Program::Image(_) => None,
        }
    }

    /// What kind of agent it is, in words.
    #[must_use]
    pub fn shape(&self) -> String {
        match &self.program {
            Program::Module { module, .. } => {
                module.info().shape.map(|shape| shape.to_string()).unwrap_or_default()
            }
            Program::Image(_) => "container image".into(),
        }
    }
}

//! A world with a network: a runtime of its own where the network is set up otherwise than usual.

use std::sync::Arc;

use mentat_runtime::model::Outcome;
use mentat_runtime::{Egress, NetworkConfig, Runtime, StandardStreams};

use crate::harness::{Test, runtime, runtime_with};
use crate::world::World;

/// What an execution runs under.
pub struct Online {
    pub world: World,
    runtime: Arc<Runtime>,
}

impl Online {
    /// Policies that permit everything, and the usual network.
    pub fn new(capabilities: &[&str]) -> Self {
        Self { world: World::new(capabilities), runtime: Arc::clone(runtime()) }
    }

    pub fn policies(mut self, policies: &str) -> Self {
        self.world.policies = policies.into();
        self
    }

    pub fn network(mut self, config: NetworkConfig) -> Self {
        self.runtime = Arc::new(runtime_with(config));
        self
    }

    /// A proxy for an agent outside this process, and its log.
    pub fn egress(&self) -> (Egress, StandardStreams) {
        let grant = self.world.grant("default");
        let streams = StandardStreams::new(&grant, None);
        (self.runtime.egress(&grant, &streams), streams)
    }

    pub async fn run(&self, guest: &str, input: &str) -> Outcome {
        let loaded = Test::wat(guest).load_in(&self.runtime).await.unwrap();
        self.world.run(&self.runtime, &loaded, input.to_owned()).await
    }

    /// Exit code and output of asking for a capability and using it.
    pub async fn ask(&self, input: &str) -> (i32, String) {
        let answer = self.run(include_str!("../ask.wat"), input).await.result;
        let answer = answer.unwrap_or_else(|error| panic!("{input}: {error}"));
        (answer.exit_code, String::from_utf8(answer.output.to_vec()).unwrap())
    }
}

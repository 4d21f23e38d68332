//! Runs one guest: `Test::wat(...).input(...).run().await`. Owns the runtimes that the tests of a
//! process share; knows nothing of what any guest should do.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::{ByteCount, Fuel, LimitsRequest, Manifest, Metering, ModuleDigest, RuntimeKind};
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::events::{EventBuffer, EventLimits, EventReader};
use mentat_runtime::model::{Answer, Caller, ExecutionId, Invocation, LogLine, Outcome};
use mentat_runtime::security::authority::{Applicant, Authority, LastCase, Narrowing};
use mentat_runtime::security::policy::{Grant, Rules, UserPowers};
use mentat_runtime::security::principal::Trust;
use mentat_runtime::{
    CompileConfig, Compiler, EngineConfig, Loaded, MediaConfig, NetworkConfig, Runtime, RuntimeConfig, Tiers,
};

/// One execution of one guest.
pub struct Test {
    module: Bytes,
    input: Bytes,
    limits: LimitsRequest,
    powers: UserPowers,
    events: Option<Arc<EventBuffer>>,
}

/// The runtime of this test process, with a small pool.
pub fn runtime() -> &'static Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| Arc::new(runtime_with(NetworkConfig::default())))
}

/// One whose modules run on baseline code, where they can.
pub fn baseline_runtime() -> &'static Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| Arc::new(runtime_of(NetworkConfig::default(), Tiers::Baseline)))
}

/// A runtime with a network of its own.
pub fn runtime_with(network: NetworkConfig) -> Runtime {
    runtime_of(network, Tiers::Optimized)
}

/// A runtime with a media store.
pub fn runtime_with_media(media: MediaConfig, network: NetworkConfig) -> Runtime {
    let config = config_of(network, Tiers::Optimized);
    Runtime::new(RuntimeConfig { media, ..config }, Compiler::InProcess).unwrap()
}

fn runtime_of(network: NetworkConfig, tiers: Tiers) -> Runtime {
    Runtime::new(config_of(network, tiers), Compiler::InProcess).unwrap()
}

fn config_of(network: NetworkConfig, tiers: Tiers) -> RuntimeConfig {
    let engine = EngineConfig { max_executions: 250, ..EngineConfig::default() };
    // A static is never dropped, so a private directory would stay behind.
    let folder = match tiers {
        // Where there is optimised code on disk, no other is made.
        Tiers::Baseline => "artifacts-beside-baseline",
        Tiers::Both | Tiers::Optimized => "artifacts",
    };
    let artifacts = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder));
    let compile = CompileConfig { tiers, ..CompileConfig::default() };
    RuntimeConfig { engine, compile, artifacts, network, ..RuntimeConfig::default() }
}

impl Test {
    pub fn module(module: impl Into<Bytes>) -> Self {
        Self {
            module: module.into(),
            input: Bytes::new(),
            limits: LimitsRequest::default(),
            powers: UserPowers::default(),
            events: None,
        }
    }

    pub fn wat(text: &str) -> Self {
        Self::module(wat::parse_str(text).unwrap())
    }

    pub fn input(mut self, input: impl Into<Bytes>) -> Self {
        self.input = input.into();
        self
    }

    /// Where it says what it has to say.
    pub fn events(mut self, events: &Arc<EventBuffer>) -> Self {
        self.events = Some(Arc::clone(events));
        self
    }

    pub fn limits(mut self, limits: LimitsRequest) -> Self {
        self.limits = limits;
        self
    }

    pub fn fuel(mut self, fuel: u64) -> Self {
        self.limits.fuel = Some(Fuel(fuel));
        self
    }

    pub fn memory(mut self, memory: ByteCount) -> Self {
        self.limits.memory_bytes = Some(memory);
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = Some(timeout);
        self
    }

    pub fn powers(mut self, powers: UserPowers) -> Self {
        self.powers = powers;
        self
    }

    pub async fn load(&self) -> Result<Loaded, Error> {
        self.load_in(runtime()).await
    }

    pub async fn load_in(&self, runtime: &Arc<Runtime>) -> Result<Loaded, Error> {
        let metering = self.limits.metering.unwrap_or(Metering::Fuel);
        runtime.load(self.module.clone(), metering).await
    }

    /// Loads and executes, as `mentat run` does.
    pub async fn run(&self) -> Outcome {
        self.run_in(runtime()).await
    }

    pub async fn run_in(&self, runtime: &Arc<Runtime>) -> Outcome {
        let loaded = match self.load_in(runtime).await {
            Ok(loaded) => loaded,
            Err(error) => return Outcome::failed(error),
        };
        let rules = Rules::default();
        let grant = rules.decide_for_user(None, &self.limits, self.powers.clone()).unwrap();
        if let Err(error) = loaded.module.fits(grant.limits().memory_bytes) {
            return Outcome::failed(error);
        }
        let events = self.events.clone().unwrap_or_else(|| followed().0);
        let invocation =
            Invocation { events: Some(Arc::clone(&events)), ..Invocation::new(self.input.clone()) };
        let outcome = runtime.execute(&loaded.module, &grant, invocation).await;
        events.close();
        outcome
    }

    pub async fn answer(&self) -> Answer {
        let outcome = self.run().await;
        outcome.result.unwrap_or_else(|error| panic!("{error}"))
    }

    pub async fn reason(&self) -> Reason {
        match self.run().await.result {
            Ok(answer) => panic!("expected an error, got {answer:?}"),
            Err(error) => error.reason(),
        }
    }
}

/// What an authority grants to an execution of an unsigned agent for a local caller.
pub fn grant(
    authority: &Authority,
    manifest: &Manifest,
    narrowing: &[Narrowing],
    execution: ExecutionId,
) -> Grant {
    let applicant = Applicant {
        manifest,
        module: &ModuleDigest::of(b""),
        runtime: RuntimeKind::Wasm,
        in_place_of: None,
        trust: Trust::Untrusted,
        signer: None,
        caller: &Caller::local(),
        execution,
        narrowing,
        last: &LastCase::default(),
    };
    authority.decide(&applicant).unwrap()
}

/// The messages of log lines.
pub fn messages(logs: &[LogLine]) -> Vec<&str> {
    logs.iter().map(|line| line.message.as_str()).collect()
}

/// A place for events, and a reader of them from the first on.
pub fn followed() -> (Arc<EventBuffer>, EventReader) {
    let events = Arc::new(EventBuffer::alone(EventLimits::default(), Arc::default()));
    let reader = events.read_from(0);
    (events, reader)
}

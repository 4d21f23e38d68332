//! What executions by the library need: a runtime, and agents in it with all that decides on them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use mentat_manifest::{FileAccess, Manifest, Metering, RuntimeKind};
use mentat_runtime::model::{Caller, ExecutionId, Invocation};
use mentat_runtime::security::audit::{
    AuditConfig, Decisions, Ending, OnAuditFailure, Recorder, RetentionConfig, SensitiveValues, SyncMode,
};
use mentat_runtime::security::authority::{Applicant, Authority, LastCase};
use mentat_runtime::security::cedar::{Policies, PolicySource};
use mentat_runtime::security::offers::{Mount, Offers};
use mentat_runtime::security::policy::{Grant, OnViolation, Rules};
use mentat_runtime::security::principal::Trust;
use mentat_runtime::{CompileConfig, Compiler, EngineConfig, Module, Runtime, RuntimeConfig, Tiers};
use tokio::runtime::Handle;

use crate::modules::Work;
use crate::raw::Raw;

/// Executions at the same time that a runtime is made for, and a floor beside it.
pub(crate) const PLACES: u32 = 4;

const POLICIES: &str = "permit (principal, action in Action::\"filesystem\", resource in Path::\"/data\");";

/// An agent and all that executes it.
pub(crate) struct Place {
    runtime: Arc<Runtime>,
    module: Arc<Module>,
    manifest: Manifest,
    authority: Authority,
    /// As whoever has the agent in memory keeps it.
    last: LastCase,
    threads: Handle,
    input: Bytes,
}

/// What the measured executions share.
pub(crate) struct Workshop {
    pub(crate) threads: tokio::runtime::Runtime,
    runtime: Arc<Runtime>,
    folder: tempfile::TempDir,
}

/// What is set up so that it does nothing by the clock, where instructions are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clocks {
    Running,
    Stopped,
}

/// Longer than anything that is measured.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The runtime that agents are measured in: as it is where nothing else is said, with few places.
pub(crate) fn config(clocks: Clocks) -> RuntimeConfig {
    let mut engine = EngineConfig { max_executions: PLACES, ..EngineConfig::default() };
    if clocks == Clocks::Stopped {
        engine.epoch_tick_ms = u64::try_from(NEVER.as_millis()).unwrap_or(u64::MAX);
    }
    // What is measured is to be the same in all rounds.
    let compile = CompileConfig { tiers: Tiers::Optimized, ..CompileConfig::default() };
    RuntimeConfig { engine, compile, ..RuntimeConfig::default() }
}

/// A thread for what a runtime does beside the one that executes.
pub(crate) fn threads() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

impl Place {
    fn grant(&self, caller: &Caller, execution: ExecutionId) -> anyhow::Result<Grant> {
        Ok(self.authority.decide(&Applicant {
            manifest: &self.manifest,
            module: self.module.digest(),
            runtime: RuntimeKind::Wasm,
            in_place_of: None,
            trust: Trust::Untrusted,
            signer: None,
            caller,
            execution,
            narrowing: &[],
            last: &self.last,
        })?)
    }

    /// Whether it answers what Wasmtime alone does.
    pub(crate) fn ensure_same(&self, raw: &Raw) -> anyhow::Result<()> {
        let expected = self.threads.block_on(raw.output(self.input.clone()))?;
        let invocation = Invocation::new(self.input.clone());
        let grant = self.grant(&Caller::local(), invocation.execution_id)?;
        let outcome = self.threads.block_on(self.runtime.execute(&self.module, &grant, invocation));
        let answer = outcome.result?;
        ensure!((answer.exit_code, &*answer.output) == (0, &*expected), "not the same: {answer:?}");
        ensure!(!expected.is_empty(), "there is no output");
        Ok(())
    }

    /// Executes the agent so often by a grant that is there, as whoever embeds the library does.
    pub(crate) fn execute_granted(&self, count: u32) -> anyhow::Result<()> {
        let grant = self.grant(&Caller::local(), ExecutionId::new())?;
        self.threads.block_on(async {
            for _ in 0..count {
                let invocation = Invocation::new(self.input.clone());
                let answer = self.runtime.execute(&self.module, &grant, invocation).await.result?;
                ensure!(answer.exit_code == 0, "the guest ended with {}", answer.exit_code);
            }
            Ok(())
        })
    }

    /// Executes the agent so often, each time as the service does.
    pub(crate) fn execute(&self, count: u32) -> anyhow::Result<()> {
        let caller = Caller::local();
        self.threads.block_on(async {
            for _ in 0..count {
                let invocation = Invocation::new(self.input.clone());
                let grant = self.grant(&caller, invocation.execution_id)?;
                let outcome = self.runtime.execute(&self.module, &grant, invocation).await;
                let answer = outcome.result?;
                ensure!(answer.exit_code == 0, "the guest ended with {}", answer.exit_code);
                grant.record_end(Ending {
                    memory_used: outcome.usage.peak_memory.0,
                    fuel: outcome.usage.fuel.map(|fuel| fuel.0),
                    result: "success",
                    exit_code: Some(answer.exit_code),
                    decisions: Decisions { granted: 1, denied: 0 },
                    ..Ending::default()
                });
            }
            Ok(())
        })
    }
}

impl Workshop {
    pub(crate) fn open(clocks: Clocks) -> anyhow::Result<Self> {
        let runtime = Arc::new(Runtime::new(config(clocks), Compiler::InProcess)?);
        Ok(Self { threads: threads()?, runtime, folder: tempfile::tempdir()? })
    }

    /// A place for an agent whose computing is bounded by fuel, without powers.
    pub(crate) fn bare(&self, work: &Work) -> anyhow::Result<Place> {
        self.place(work, Metering::Fuel, "", None)
    }

    pub(crate) fn place(
        &self,
        work: &Work,
        metering: Metering,
        capabilities: &str,
        audit: Option<Recorder>,
    ) -> anyhow::Result<Place> {
        let module = Bytes::from(work.module.clone());
        let loaded = self.threads.block_on(self.runtime.load(module, metering))?;
        let manifest = Manifest::parse(&format!(
            "id: bench.agent\nversion: 1.0.0\nruntime: wasm\nmodule: agent.wasm\n\
             wasm: {{ capabilities: [{capabilities}] }}\n"
        ))?;
        let mount = Mount::new(self.folder.path(), "/data", FileAccess::ReadWrite)?;
        let offers = Offers { mounts: vec![mount], ..Offers::default() };
        let policies = Policies::parse(&[PolicySource { name: "bench".into(), text: POLICIES.into() }])?;
        let authority = Authority::new(Rules::default(), OnViolation::Deny, offers, policies, audit);
        Ok(Place {
            runtime: Arc::clone(&self.runtime),
            module: loaded.module,
            manifest,
            authority,
            last: LastCase::default(),
            threads: self.threads.handle().clone(),
            input: work.input.clone(),
        })
    }

    /// A log of its own.
    pub(crate) fn recorder(&self, name: &str, clocks: Clocks) -> anyhow::Result<Recorder> {
        Ok(Recorder::open(&AuditConfig {
            folder: self.folder.path().join(name),
            origin: "bench.mentat".into(),
            sync: SyncMode::Checkpoint,
            on_failure: OnAuditFailure::Refuse,
            checkpoint_every: if clocks == Clocks::Stopped { NEVER } else { Duration::from_secs(1) },
            retention: RetentionConfig::default(),
            sensitive: SensitiveValues::default(),
        })?)
    }
}

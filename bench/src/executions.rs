//! What an execution costs beyond what Wasmtime alone needs for the same module, and what recording it, a mounted
//! directory and a grant add to that.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use mentat_manifest::{FileAccess, Manifest, Metering};
use mentat_runtime::model::{Caller, Invocation};
use mentat_runtime::security::audit::{
    AuditConfig, Decisions, Ending, OnAuditFailure, Recorder, RetentionConfig, SensitiveValues, SyncMode,
};
use mentat_runtime::security::authority::{Applicant, Authority};
use mentat_runtime::security::cedar::{Policies, PolicySource};
use mentat_runtime::security::offers::{Mount, Offers};
use mentat_runtime::security::policy::{OnViolation, Rules};
use mentat_runtime::security::principal::Trust;
use mentat_runtime::{Compiler, EngineConfig, Module, Runtime, RuntimeConfig};
use tokio::runtime::Handle;

use crate::measure::{Plan, Row, Subject, rows};

/// What recording may add to an execution.
const RECORDING_LIMIT: Duration = Duration::from_micros(5);
/// Grants that one execution asks for, where their cost is measured.
const REQUESTS: u32 = 1000;

const NOTHING: &str =
    r#"(module (memory (export "memory") 1) (func (export "process") (result i32) (i32.const 0)))"#;
const COMMAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")))"#;
const ASKS: &str = r#"(module
    (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
    (import "mentat" "release_capability" (func $release (param i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "filesystem:read:/data/a")
    (func (export "process") (result i32)
      (local $left i32)
      (local.set $left (i32.const 1000))
      (loop $again
        (drop (call $release (call $request (i32.const 0) (i32.const 23))))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left)))
      (i32.const 0)))"#;
const POLICIES: &str = "permit (principal, action in Action::\"filesystem\", resource in Path::\"/data\");";

/// An agent and all that executes it.
struct Place {
    runtime: Arc<Runtime>,
    module: Arc<Module>,
    manifest: Manifest,
    authority: Authority,
    threads: Handle,
}

impl Place {
    /// Executes the agent so often, each time as the service does.
    fn execute(&self, count: u32) -> anyhow::Result<()> {
        let caller = Caller::local();
        self.threads.block_on(async {
            for _ in 0..count {
                let invocation = Invocation::new("");
                let grant = self.authority.decide(&Applicant {
                    manifest: &self.manifest,
                    module: self.module.digest(),
                    trust: Trust::Untrusted,
                    signer: None,
                    caller: &caller,
                    execution: invocation.execution_id,
                    narrowing: &[],
                })?;
                let outcome = self.runtime.execute(&self.module, &grant, invocation).await;
                let answer = outcome.result?;
                ensure!(answer.exit_code == 0, "the guest ended with {}", answer.exit_code);
                grant.record_end(&Ending {
                    memory_used: outcome.usage.peak_memory.0,
                    fuel: outcome.usage.fuel.map(|fuel| fuel.0),
                    result: "success".into(),
                    exit_code: Some(answer.exit_code),
                    decisions: Decisions { granted: 1, denied: 0 },
                    ..Ending::default()
                });
            }
            Ok(())
        })
    }
}

/// What the measured executions share.
struct Workshop {
    threads: tokio::runtime::Runtime,
    runtime: Arc<Runtime>,
    folder: tempfile::TempDir,
}

impl Workshop {
    fn open() -> anyhow::Result<Self> {
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let engine = EngineConfig { max_executions: 4, ..EngineConfig::default() };
        let config = RuntimeConfig { engine, ..RuntimeConfig::default() };
        let runtime = Arc::new(Runtime::new(config, Compiler::InProcess)?);
        Ok(Self { threads, runtime, folder: tempfile::tempdir()? })
    }

    fn place(&self, module: &str, capabilities: &str, audit: Option<Recorder>) -> anyhow::Result<Place> {
        let loaded =
            self.threads.block_on(self.runtime.load(wat::parse_str(module)?.into(), Metering::Fuel))?;
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
            threads: self.threads.handle().clone(),
        })
    }

    fn recorder(&self) -> anyhow::Result<Recorder> {
        Ok(Recorder::open(&AuditConfig {
            folder: self.folder.path().join("audit"),
            origin: "bench.mentat".into(),
            sync: SyncMode::Checkpoint,
            on_failure: OnAuditFailure::Refuse,
            checkpoint_every: Duration::from_secs(1),
            retention: RetentionConfig::default(),
            sensitive: SensitiveValues::default(),
        })?)
    }
}

/// An execution of nothing at all, with and without its record.
pub(crate) fn executions(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open()?;
    let recorder = workshop.recorder()?;
    let unaudited = workshop.place(NOTHING, "", None)?;
    let audited = workshop.place(NOTHING, "", Some(recorder.clone()))?;
    let alone = Alone::new(NOTHING)?;
    let threads = workshop.threads.handle();
    let mut measured = plan.measure(vec![
        Subject::new("wasmtime alone, the same module", |count| threads.block_on(alone.execute(count))),
        Subject::new("an execution, not recorded", |count| unaudited.execute(count)),
        Subject::new("an execution, recorded", |count| audited.execute(count)),
    ])?;
    recorder.close();
    let [_, unaudited, audited] = measured.as_slice() else { anyhow::bail!("three were measured") };
    let recording = audited.less(unaudited, "what recording adds", RECORDING_LIMIT);
    measured.push(recording);
    Ok(rows(&measured))
}

/// A WASI command with a directory and without.
pub(crate) fn sandboxes(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open()?;
    let bare = workshop.place(COMMAND, "", None)?;
    let mounted = workshop.place(COMMAND, "\"filesystem:read:/data\"", None)?;
    let measured = plan.measure(vec![
        Subject::new("a WASI command without a directory", |count| bare.execute(count)),
        Subject::new("a WASI command with a directory", |count| mounted.execute(count)),
    ])?;
    Ok(rows(&measured))
}

/// Asking for a grant and giving it back, from inside a guest.
pub(crate) fn requests(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open()?;
    let asks = workshop.place(ASKS, "\"filesystem:read:/data\"", None)?;
    let measured = plan.measure(vec![
        Subject::new("request_capability and release_capability in a guest", |count| {
            asks.execute(count / REQUESTS)
        })
        .in_steps_of(REQUESTS),
    ])?;
    Ok(rows(&measured))
}

/// The least that an execution can cost: an engine set up as ours is, and nothing around it.
struct Alone {
    engine: wasmtime::Engine,
    module: wasmtime::InstancePre<()>,
}

impl Alone {
    fn new(module: &str) -> anyhow::Result<Self> {
        let module = wat::parse_str(module)?;
        let mut config = wasmtime::Config::new();
        let mut pool = wasmtime::PoolingAllocationConfig::new();
        pool.total_core_instances(4).total_memories(4).total_tables(4).total_stacks(4);
        config.consume_fuel(true).epoch_interruption(true);
        config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
        let made = wasmtime::Engine::new(&config).and_then(|engine| {
            let module = wasmtime::Module::new(&engine, &module)?;
            let module = wasmtime::Linker::new(&engine).instantiate_pre(&module)?;
            Ok(Self { engine, module })
        });
        made.map_err(|error| anyhow!("{error:#}"))
    }

    async fn execute(&self, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            let answer = self.execute_once().await.map_err(|error| anyhow!("{error:#}"))?;
            ensure!(answer == 0, "the guest ended with {answer}");
        }
        Ok(())
    }

    async fn execute_once(&self) -> wasmtime::Result<i32> {
        let mut store = wasmtime::Store::new(&self.engine, ());
        store.set_fuel(1_000_000)?;
        store.set_epoch_deadline(1);
        let instance = self.module.instantiate_async(&mut store).await?;
        let process = instance.get_typed_func::<(), i32>(&mut store, "process")?;
        process.call_async(&mut store, ()).await
    }
}

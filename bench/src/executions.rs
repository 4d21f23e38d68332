//! What an execution costs beyond what Wasmtime alone needs for the same module, and what recording it, a mounted
//! directory and a grant add to that.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use mentat_manifest::{FileAccess, Manifest, Metering};
use mentat_runtime::model::{Caller, ExecutionId, Invocation};
use mentat_runtime::security::audit::{
    AuditConfig, Decisions, Ending, OnAuditFailure, Recorder, RetentionConfig, SensitiveValues, SyncMode,
};
use mentat_runtime::security::authority::{Applicant, Authority};
use mentat_runtime::security::cedar::{Policies, PolicySource};
use mentat_runtime::security::offers::{Mount, Offers};
use mentat_runtime::security::policy::{Grant, OnViolation, Rules};
use mentat_runtime::security::principal::Trust;
use mentat_runtime::{Compiler, EngineConfig, Module, Runtime, RuntimeConfig};
use tokio::runtime::Handle;

use crate::measure::{Plan, Row, Subject, rows};
use crate::raw::Raw;

/// What recording may add to an execution.
const RECORDING_LIMIT: Duration = Duration::from_micros(5);
/// Grants that one execution asks for, where their cost is measured.
const REQUESTS: u32 = 1000;

const TINY_NAME: &str = "tiny";
/// Reads its input, adds one to each byte, and writes that.
const TINY: &str = r#"(module
    (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
    (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "process") (result i32)
      (local $length i32) (local $at i32)
      (local.set $length (call $read (i32.const 0) (i32.const 65536)))
      (loop $again
        (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (i32.const 1)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $at) (local.get $length))))
      (call $write (i32.const 0) (local.get $length))))"#;
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
    input: Bytes,
}

impl Place {
    fn grant(&self, caller: &Caller, execution: ExecutionId) -> anyhow::Result<Grant> {
        Ok(self.authority.decide(&Applicant {
            manifest: &self.manifest,
            module: self.module.digest(),
            trust: Trust::Untrusted,
            signer: None,
            caller,
            execution,
            narrowing: &[],
        })?)
    }

    /// Whether it answers what Wasmtime alone does.
    fn ensure_same(&self, (exit_code, output): &(i32, Vec<u8>)) -> anyhow::Result<()> {
        let invocation = Invocation::new(self.input.clone());
        let grant = self.grant(&Caller::local(), invocation.execution_id)?;
        let outcome = self.threads.block_on(self.runtime.execute(&self.module, &grant, invocation));
        let answer = outcome.result?;
        ensure!((answer.exit_code, &*answer.output) == (*exit_code, &**output), "not the same: {answer:?}");
        ensure!(!output.is_empty(), "there is no output");
        Ok(())
    }

    /// Executes the agent so often by a grant that is there, as whoever embeds the library does.
    fn execute_granted(&self, count: u32) -> anyhow::Result<()> {
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
    fn execute(&self, count: u32) -> anyhow::Result<()> {
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

    fn place(
        &self,
        module: &[u8],
        capabilities: &str,
        audit: Option<Recorder>,
        input: &Bytes,
    ) -> anyhow::Result<Place> {
        let loaded = self.threads.block_on(self.runtime.load(module.to_vec().into(), Metering::Fuel))?;
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
            input: input.clone(),
        })
    }

    fn recorder(&self, name: &str) -> anyhow::Result<Recorder> {
        Ok(Recorder::open(&AuditConfig {
            folder: self.folder.path().join(name),
            origin: "bench.mentat".into(),
            sync: SyncMode::Checkpoint,
            on_failure: OnAuditFailure::Refuse,
            checkpoint_every: Duration::from_secs(1),
            retention: RetentionConfig::default(),
            sensitive: SensitiveValues::default(),
        })?)
    }
}

/// Executions of agents of several sizes: by Wasmtime alone, by the library, and as the service does, decided on and
/// recorded.
pub(crate) fn executions(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open()?;
    let tiny = wat::parse_str(TINY)?;
    let mut all = Vec::new();
    for (name, module, input) in [
        (TINY_NAME, tiny, Bytes::from(vec![7; 1024])),
        ("Rust", agent("word-statistics")?, Bytes::from("a few words, and a few more\n".repeat(36))),
        ("Go", agent("metrics")?, Bytes::from_static(b"{\"values\": [1, 2.5, 3, 99]}")),
    ] {
        let raw = Raw::new(&module, input.clone())?;
        let recorder = workshop.recorder(name)?;
        let bare = workshop.place(&module, "", None, &input)?;
        let recorded = workshop.place(&module, "", Some(recorder.clone()), &input)?;
        bare.ensure_same(
            &workshop.threads.block_on(raw.execute_once()).map_err(|error| anyhow!("{error:#}"))?,
        )?;
        let mut measured = plan.measure(vec![
            Subject::new(format!("{name}: wasmtime alone, set up the same"), |count| {
                workshop.threads.block_on(raw.execute(count))
            }),
            Subject::new(format!("{name}: by the library"), |count| bare.execute_granted(count)),
            Subject::new(format!("{name}: decided on"), |count| bare.execute(count)),
            Subject::new(format!("{name}: decided on and recorded"), |count| recorded.execute(count)),
        ])?;
        recorder.close();
        // Of longer ones, the noise is larger than what recording adds.
        if let (TINY_NAME, [_, _, decided, recorded]) = (name, measured.as_slice()) {
            let recording = recorded.less(decided, &format!("{name}: what recording adds"), RECORDING_LIMIT);
            measured.push(recording);
        }
        all.extend(rows(&measured));
    }
    Ok(all)
}

/// An example agent's module.
fn agent(name: &str) -> anyhow::Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents").join(name).join("agent.wasm");
    std::fs::read(&path).with_context(|| format!("no `{}`; `cargo xtask agents` builds it", path.display()))
}

/// A WASI command with a directory and without.
pub(crate) fn sandboxes(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open()?;
    let (module, nothing) = (wat::parse_str(COMMAND)?, Bytes::new());
    let bare = workshop.place(&module, "", None, &nothing)?;
    let mounted = workshop.place(&module, "\"filesystem:read:/data\"", None, &nothing)?;
    let measured = plan.measure(vec![
        Subject::new("a WASI command without a directory", |count| bare.execute(count)),
        Subject::new("a WASI command with a directory", |count| mounted.execute(count)),
    ])?;
    Ok(rows(&measured))
}

/// Asking for a grant and giving it back, from inside a guest.
pub(crate) fn requests(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open()?;
    let asks = workshop.place(&wat::parse_str(ASKS)?, "\"filesystem:read:/data\"", None, &Bytes::new())?;
    let measured = plan.measure(vec![
        Subject::new("request_capability and release_capability in a guest", |count| {
            asks.execute(count / REQUESTS)
        })
        .in_steps_of(REQUESTS),
    ])?;
    Ok(rows(&measured))
}

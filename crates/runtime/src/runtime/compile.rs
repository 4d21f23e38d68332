//! Compiling is hostile work: a small module can keep Cranelift busy for a minute, and a compile
//! cannot be cancelled from inside. So it happens in a child process of the same binary, under CPU,
//! memory and wall-clock limits, killed when over; the parent maps the artifact that it wrote.
//!
//! Invariant: the service's own process never runs Cranelift unless an embedder chose `InProcess`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::{ByteCount, Init, Metering, escape_untrusted};
use rustix::process::{Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::baseline;
use super::code::{CodeConfig, Tier};
use super::inspect::invalid;
use super::snapshot;
use crate::error::{Error, ModuleProblemKind};

/// What one compile may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompileConfig {
    /// Wall clock, in milliseconds.
    pub timeout_ms: u64,
    /// CPU time of all its threads, in seconds.
    pub cpu_seconds: u64,
    /// Address space of the compiling process, in bytes.
    pub memory: ByteCount,
    /// Compiles at the same time; further ones wait.
    pub concurrency: u32,
    /// Loads that may wait for a compile; one more is refused.
    pub queue_length: u32,
    /// Milliseconds that a load waits for its compile to begin, at most.
    pub queue_timeout_ms: u64,
    /// Bytes of a module at most.
    pub max_module: ByteCount,
    /// Which code a module gets that was not compiled before.
    pub tiers: Tiers,
    /// Bytes of artifacts that are kept on disk.
    pub cache: ByteCount,
}

/// Which code modules get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tiers {
    /// Baseline code at first, where there can be any, and optimised code as soon as that is made.
    #[default]
    Both,
    /// Optimised code, which the first execution waits for.
    Optimized,
    /// Baseline code where there can be any, and no better: for comparing the two.
    Baseline,
}

/// Who waits for a compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Somebody.
    Awaited,
    /// Nobody: it gives way to all else on this machine.
    Behind,
}

/// Where compiles happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// In a child process: this program is run with the arguments of [`CompileRequest::to_args`].
    /// The `mentat` binary is one; an embedder's own can be another, by calling [`compile_here`].
    Child(PathBuf),
    /// In this process, without limits: for embedders who trust their modules.
    InProcess,
}

/// One compile, as the child is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileRequest {
    /// What shapes the code.
    pub code: CodeConfig,
    /// Whether it is the code of the module as it is after its initialisation.
    pub init: Option<Init>,
    /// Where the artifact goes.
    pub output: PathBuf,
    /// Who waits for it.
    pub priority: Priority,
    /// CPU seconds that the process may take.
    pub cpu_seconds: u64,
    /// Address space that the process may take, in bytes.
    pub memory: ByteCount,
}

/// How far a compile that nobody waits for gives way to other processes (`nice(2)`).
const NICE_BEHIND: i32 = 10;
/// Bytes of the child's message at most.
const MAX_MESSAGE_BYTES: u64 = 16 << 10;

impl Default for CompileConfig {
    fn default() -> Self {
        Self {
            timeout_ms: 60_000,
            cpu_seconds: 120,
            memory: ByteCount(4 << 30),
            concurrency: 1,
            queue_length: 100,
            queue_timeout_ms: 60_000,
            max_module: ByteCount(128 << 20),
            tiers: Tiers::Both,
            cache: ByteCount(10 << 30),
        }
    }
}

impl CompileRequest {
    /// The command line that makes a child do this.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let metering = match self.code.metering {
            Metering::Fuel => "fuel",
            Metering::Epoch => "epoch",
        };
        let tier = match self.code.tier {
            Tier::Baseline => "baseline",
            Tier::Optimized => "optimized",
        };
        let mut arguments = vec![
            "compile".into(),
            "-".into(),
            "--output".into(),
            self.output.display().to_string(),
            "--metering".into(),
            metering.into(),
            "--tier".into(),
            tier.into(),
            "--stack".into(),
            self.code.stack.0.to_string(),
            "--memory-reservation".into(),
            self.code.memory_reservation.0.to_string(),
            "--cpu-seconds".into(),
            self.cpu_seconds.to_string(),
            "--memory".into(),
            self.memory.0.to_string(),
        ];
        if self.init == Some(Init::Snapshot) {
            arguments.push("--snapshot".into());
        }
        if self.priority == Priority::Behind {
            arguments.push("--behind".into());
        }
        arguments
    }
}

/// What is reserved and not used counts against the limit of the child's memory; the allocator of `mentat` reserves nothing
/// ahead by this.
const ALLOCATE_AS_NEEDED: [(&str, &str); 1] = [("MIMALLOC_ARENA_RESERVE", "0")];

/// Compiles where the compiler is.
///
/// # Errors
/// `INVALID_MODULE` when the module does not validate, or the compile goes over a limit; `INTERNAL`
/// when the child cannot be run.
pub(crate) async fn compile_at(
    compiler: &Compiler,
    request: CompileRequest,
    module: Bytes,
    timeout: Duration,
) -> Result<(), Error> {
    match compiler {
        Compiler::Child(program) => compile_in_child(program, &request, module, timeout).await,
        Compiler::InProcess => {
            let work = move || {
                let artifact = compile(&module, &request.code, request.init)?;
                std::fs::write(&request.output, artifact)
                    .map_err(|error| Error::internal("writing the compiled module", error))
            };
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| Error::internal("compiling the module", error))?
        }
    }
}

async fn compile_in_child(
    program: &Path,
    request: &CompileRequest,
    module: Bytes,
    timeout: Duration,
) -> Result<(), Error> {
    let mut child = Command::new(program)
        .args(request.to_args())
        .env_clear()
        .envs(ALLOCATE_AS_NEEDED)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Error::internal(format!("starting the compiler `{}`", program.display()), error))?;
    let stdin = child.stdin.take();
    let stderr = child.stderr.take();
    let work = async {
        let send = async {
            if let Some(mut stdin) = stdin {
                // A child that refuses early closes its end; its message says why.
                let _ = stdin.write_all(&module).await;
            }
        };
        let receive = async {
            let mut message = Vec::new();
            if let Some(stderr) = stderr {
                let _ = stderr.take(MAX_MESSAGE_BYTES).read_to_end(&mut message).await;
            }
            message
        };
        let ((), message) = tokio::join!(send, receive);
        (child.wait().await, message)
    };
    let limit = |what: String| {
        invalid(
            ModuleProblemKind::CompileLimit,
            "compile",
            format!(
                "compiling the module took more than {what}; make it smaller, or have the operator raise `compile.*`"
            ),
        )
    };
    let Ok((status, message)) = tokio::time::timeout(timeout, work).await else {
        return Err(limit(format!("{} ms", timeout.as_millis())));
    };
    let status = status.map_err(|error| Error::internal("waiting for the compiler", error))?;
    if status.success() {
        return Ok(());
    }
    let message = escape_untrusted(String::from_utf8_lossy(&message).trim(), 1024);
    match status.code() {
        Some(code) if code == i32::from(crate::error::Reason::InvalidModule.exit_code()) => {
            Err(invalid(ModuleProblemKind::Malformed, "module", message))
        }
        Some(code) => Err(Error::internal(format!("the compiler ended with exit code {code}"), message)),
        // Ended by a signal: SIGXCPU and SIGKILL for time, SIGABRT and SIGSEGV for memory.
        None => Err(limit(format!("{} s of CPU time or {} of memory", request.cpu_seconds, request.memory))),
    }
}

/// Does the child's work in this process: takes the limits upon itself for good, reads the module,
/// writes the artifact.
///
/// # Errors
/// `INVALID_MODULE` when the module does not validate; `INTERNAL` when a limit cannot be set or the
/// artifact cannot be written.
pub fn compile_here(request: &CompileRequest, input: &mut dyn Read) -> Result<(), Error> {
    confine(request)?;
    let mut module = Vec::new();
    input.read_to_end(&mut module).map_err(|error| Error::internal("reading the module", error))?;
    let artifact = compile(&module, &request.code, request.init)?;
    let written = std::fs::File::create(&request.output).and_then(|mut file| file.write_all(&artifact));
    written.map_err(|error| Error::internal(format!("writing `{}`", request.output.display()), error))
}

/// Compiles in this process.
pub(crate) fn compile(module: &[u8], code: &CodeConfig, init: Option<Init>) -> Result<Vec<u8>, Error> {
    let initialised = match init {
        Some(Init::Snapshot) => Some(snapshot::initialised(module, code)?),
        None => None,
    };
    let module = initialised.as_deref().unwrap_or(module);
    let mut config = code.engine();
    if initialised.is_some() {
        // What is sparse as well is to be mapped, not written, each time.
        config.memory_guaranteed_dense_image_size(snapshot::MAX_INIT_MEMORY.0);
    }
    let engine = wasmtime::Engine::new(&config)
        .map_err(|error| Error::internal("making the compiling engine", error))?;
    let metered = match code.tier {
        Tier::Baseline => Some(baseline::meter(module)?),
        Tier::Optimized => None,
    };
    let module = metered.as_deref().unwrap_or(module);
    let compiled = if wasmparser::Parser::is_component(module) {
        engine.precompile_component(module)
    } else {
        engine.precompile_module(module)
    };
    compiled.map_err(|error| {
        invalid(ModuleProblemKind::Malformed, "module", escape_untrusted(&format!("{error:#}"), 1024))
    })
}

fn confine(request: &CompileRequest) -> Result<(), Error> {
    let failed = |what: &str, error: rustix::io::Errno| Error::internal(format!("limiting {what}"), error);
    let both = |value: u64| Rlimit { current: Some(value), maximum: Some(value) };
    rustix::process::setrlimit(Resource::Cpu, both(request.cpu_seconds))
        .map_err(|error| failed("CPU time", error))?;
    rustix::process::setrlimit(Resource::As, both(request.memory.0))
        .map_err(|error| failed("memory", error))?;
    rustix::process::setrlimit(Resource::Core, both(0)).map_err(|error| failed("core dumps", error))?;
    // Memory holds the artifact before the disk does, so this bounds what it takes there.
    rustix::process::setrlimit(Resource::Fsize, both(request.memory.0))
        .map_err(|error| failed("file size", error))?;
    if request.priority == Priority::Behind {
        rustix::process::nice(NICE_BEHIND).map_err(|error| failed("its priority", error))?;
    }
    // Not to outlive the service when that is killed.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| failed("its life", error))
}

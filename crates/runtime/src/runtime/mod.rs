//! The executor: engines, compiled modules, permits, and one call after another, each in a sandbox
//! of its own. [`Runtime`] is the whole of it for embedders and for the service alike.

pub(crate) mod cache;
pub(crate) mod compile;
pub(crate) mod engine;
pub(crate) mod inspect;
pub(crate) mod instance;
pub(crate) mod limits;
pub(crate) mod module;
pub(crate) mod pool;
pub(crate) mod trap;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mentat_manifest::{Metering, ModuleDigest, escape_untrusted};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use self::cache::ArtifactCache;
use self::compile::{CompileConfig, CompileRequest, Compiler};
use self::engine::{Engine, EngineConfig, MeteredEngine};
use self::inspect::{ModuleInfo, invalid};
use self::module::{Code, Module};
use self::pool::{Pool, PoolConfig};
use crate::error::{Error, ModuleProblemKind};
use crate::host::context::HostConfig;
pub use crate::host::context::SandboxLimits;
use crate::host::network::Network;
pub use crate::host::network::NetworkConfig;
use crate::host::quota::Storage;
use crate::host::scratch;
use crate::model::{Invocation, Outcome};
use crate::security::policy::Grant;

/// What a runtime is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The engines and their pools.
    pub engine: EngineConfig,
    /// The queue before the pool.
    pub pool: PoolConfig,
    /// What a compile may take.
    pub compile: CompileConfig,
    /// What sandboxes may take of the machine.
    pub sandbox: SandboxLimits,
    /// How executions reach the network.
    pub network: NetworkConfig,
    /// Where compiled code is kept; `None` for a private directory that goes with the runtime.
    pub artifacts: Option<PathBuf>,
    /// Where executions have their scratch directories; `None` for the system's own place for such.
    pub scratch: Option<PathBuf>,
}

/// Loads modules and executes them.
#[derive(Debug)]
pub struct Runtime {
    config: RuntimeConfig,
    host: HostConfig,
    compiler: Compiler,
    engine: Engine,
    pool: Pool,
    artifacts: ArtifactCache,
    /// Keeps the private artifact directory alive.
    _private: Option<tempfile::TempDir>,
    compiling: Pool,
    modules: Mutex<HashMap<ModuleKey, Slot>>,
}

/// A module that is ready, and where its code came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The module.
    pub module: Arc<Module>,
    /// Where its code came from.
    pub origin: CodeOrigin,
}

/// Where compiled code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeOrigin {
    /// It was in memory.
    Memory,
    /// It was on disk.
    Disk,
    /// It was compiled just now, in this time.
    Compiled(Duration),
}

type ModuleKey = (ModuleDigest, Metering);

/// A module in memory or on its way there.
#[derive(Debug, Clone)]
enum Slot {
    Ready(Weak<Module>),
    Loading(Arc<OnceCell<Result<Loaded, Error>>>),
}

impl Runtime {
    /// Makes a runtime.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the configuration does not fit this machine; `INTERNAL` when the
    /// artifact directory cannot be used.
    pub fn new(config: RuntimeConfig, compiler: Compiler) -> Result<Self, Error> {
        let engine = Engine::new(config.engine.clone())?;
        let (directory, private) = match &config.artifacts {
            Some(directory) => (directory.clone(), None),
            None => {
                let private = tempfile::Builder::new()
                    .prefix("mentat-artifacts-")
                    .tempdir()
                    .map_err(|error| Error::internal("making a directory for artifacts", error))?;
                (private.path().to_owned(), Some(private))
            }
        };
        if let Some(scratch) = &config.scratch {
            prepare_scratch(scratch)
                .map_err(|error| Error::internal("making a place for scratch files", error))?;
        }
        let compile_queue = PoolConfig {
            queue_length: config.compile.queue_length,
            queue_timeout_ms: config.compile.queue_timeout_ms,
        };
        let host = HostConfig {
            table_elements: config.engine.table_elements,
            scratch: config.scratch.clone(),
            sandbox: config.sandbox.clone(),
            network: Arc::new(Network::new(config.network.clone())?),
            storage: Storage::default(),
        };
        Ok(Self {
            host,
            pool: Pool::new("executions", config.engine.max_executions, config.pool.clone()),
            compiling: Pool::new("compiles", config.compile.concurrency.max(1), compile_queue),
            artifacts: ArtifactCache::open(&directory)?,
            modules: Mutex::default(),
            _private: private,
            engine,
            compiler,
            config,
        })
    }

    /// Who runs now.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What this runtime is made of.
    #[must_use]
    pub fn config(&self) -> &RuntimeConfig {
        &self.config
    }

    /// Reads and checks a module without compiling it.
    ///
    /// # Errors
    /// `INVALID_MODULE` with everything that is wrong.
    pub fn check(&self, bytes: &[u8], metering: Metering) -> Result<ModuleInfo, Error> {
        let limit = self.config.compile.max_module;
        if bytes.len() as u64 > limit.0 {
            return Err(invalid(
                ModuleProblemKind::Malformed,
                "size",
                format!("the module has {} bytes, the limit is {limit}", bytes.len()),
            ));
        }
        let info = ModuleInfo::read(bytes)?;
        module::check(&info, self.engine.metered(metering)?, &self.config.engine)?;
        Ok(info)
    }

    /// Makes a module ready: from memory, from disk, or by compiling it. Callers that ask for the
    /// same module at the same time share one compile; when the one that does it goes away, another
    /// takes over.
    ///
    /// # Errors
    /// `INVALID_MODULE` when it cannot run here or cannot be compiled within the limits.
    pub async fn load(self: &Arc<Self>, bytes: Bytes, metering: Metering) -> Result<Loaded, Error> {
        let this = Arc::clone(self);
        let module = bytes.clone();
        let info = tokio::task::spawn_blocking(move || this.check(&module, metering))
            .await
            .map_err(|error| Error::internal("checking the module", error))??;
        let key = (info.digest, metering);
        let cell = match self.slot(&key) {
            Ok(module) => return Ok(Loaded { module, origin: CodeOrigin::Memory }),
            Err(cell) => cell,
        };
        let loaded = cell.get_or_init(|| self.load_code(info, bytes, metering)).await.clone();
        let mut modules = self.modules.lock();
        // Only the first to come back settles the slot; a later load may already own a new one.
        if matches!(modules.get(&key), Some(Slot::Loading(current)) if Arc::ptr_eq(current, &cell)) {
            match &loaded {
                Ok(loaded) => modules.insert(key, Slot::Ready(Arc::downgrade(&loaded.module))),
                Err(_) => modules.remove(&key),
            };
        }
        loaded
    }

    /// Executes a module once, waiting for a place when all are taken. Cancelling the invocation, or dropping this
    /// future, ends it at once; the first tells what it cost until then.
    pub async fn execute(&self, module: &Module, grant: &Grant, invocation: Invocation) -> Outcome {
        let admitted = tokio::select! {
            admitted = self.pool.admit(module.places()) => admitted,
            () = invocation.cancel.cancelled() => Err(Error::Cancelled),
        };
        // Only now: who waited for a place waited while the log can have failed.
        let admitted = admitted.and_then(|permit| grant.ensure_audited().map(|()| permit));
        match admitted {
            Ok(permit) => instance::run(module, &self.host, grant, invocation, permit).await,
            Err(error) => Outcome::failed(error),
        }
    }

    /// Forgets a module's compiled code on disk; executions that use it are not disturbed.
    pub fn forget(&self, digest: &ModuleDigest) {
        self.artifacts.remove(|name| name == *digest);
    }

    /// Forgets the compiled code on disk of all modules but these.
    pub fn forget_all_but(&self, kept: &HashSet<ModuleDigest>) {
        self.artifacts.remove(|digest| !kept.contains(&digest));
    }

    /// The module where it is in memory, else the cell in which it is loaded.
    fn slot(&self, key: &ModuleKey) -> Result<Arc<Module>, Arc<OnceCell<Result<Loaded, Error>>>> {
        let mut modules = self.modules.lock();
        match modules.get(key) {
            Some(Slot::Ready(module)) => {
                if let Some(module) = module.upgrade() {
                    return Ok(module);
                }
            }
            Some(Slot::Loading(cell)) => return Err(Arc::clone(cell)),
            None => {}
        }
        modules.retain(|_, slot| !matches!(slot, Slot::Ready(module) if module.strong_count() == 0));
        let cell = Arc::new(OnceCell::new());
        modules.insert(*key, Slot::Loading(Arc::clone(&cell)));
        Err(cell)
    }

    async fn load_code(&self, info: ModuleInfo, bytes: Bytes, metering: Metering) -> Result<Loaded, Error> {
        let engine = self.engine.metered(metering)?;
        if let Some(file) = self.artifacts.get(&engine.wasmtime, &info.digest, metering) {
            match map_code(engine, file, info.component) {
                Ok(code) => {
                    let module = Arc::new(Module::link(engine, info, &code)?);
                    return Ok(Loaded { module, origin: CodeOrigin::Disk });
                }
                Err(error) => tracing::warn!(%error, "compiled artifact does not fit; compiling again"),
            }
        }
        let _turn = self.compiling.admit(1).await?;
        let started = Instant::now();
        let file = self.compile(engine, &info, bytes, metering).await?;
        let code = map_code(engine, file, info.component).map_err(|error| {
            invalid(
                ModuleProblemKind::MemoryFault,
                "module",
                format!(
                    "the module does not fit the engine: {}",
                    escape_untrusted(&format!("{error:#}"), 512)
                ),
            )
        })?;
        let module = Arc::new(Module::link(engine, info, &code)?);
        Ok(Loaded { module, origin: CodeOrigin::Compiled(started.elapsed()) })
    }

    async fn compile(
        &self,
        engine: &MeteredEngine,
        info: &ModuleInfo,
        bytes: Bytes,
        metering: Metering,
    ) -> Result<File, Error> {
        let limits = &self.config.compile;
        let failed = |error| Error::internal("keeping the compiled module", error);
        let scratch = self.artifacts.scratch().map_err(failed)?;
        let request = CompileRequest {
            metering,
            stack: self.config.engine.stack,
            output: scratch.to_path_buf(),
            cpu_seconds: limits.cpu_seconds,
            memory: limits.memory,
        };
        match &self.compiler {
            Compiler::Child(program) => {
                let timeout = Duration::from_millis(limits.timeout_ms);
                compile::compile_in_child(program, &request, bytes, timeout).await?;
            }
            Compiler::InProcess => {
                let work = move || {
                    let artifact = compile::compile(&bytes, request.metering, request.stack)?;
                    std::fs::write(&request.output, artifact).map_err(failed)
                };
                tokio::task::spawn_blocking(work)
                    .await
                    .map_err(|error| Error::internal("compiling the module", error))??;
            }
        }
        self.artifacts.keep(&engine.wasmtime, &info.digest, metering, scratch).map_err(failed)
    }
}

/// Makes the place of the scratch directories, and removes those that a process left which was killed: the place belongs
/// to one runtime at a time.
fn prepare_scratch(place: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(place)?;
    for entry in std::fs::read_dir(place)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(scratch::PREFIX) {
            scratch::empty(&entry.path())?;
            std::fs::remove_dir(entry.path())?;
        }
    }
    Ok(())
}

#[allow(unsafe_code, reason = "mapping compiled code is unsafe by Wasmtime's design")]
fn map_code(engine: &MeteredEngine, file: File, component: bool) -> wasmtime::Result<Code> {
    // SAFETY: the file is an artifact that this installation's own compiler wrote: it comes from
    // `ArtifactCache` alone, which gives out only files whose keyed digest it has just verified, or
    // which it has just been handed by the compiler, in a directory private to the service.
    unsafe {
        if component {
            // There is no call for an open file here; its descriptor's path is the same file, whatever
            // happens to its name.
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            wasmtime::component::Component::deserialize_file(&engine.wasmtime, path).map(Code::Component)
        } else {
            wasmtime::Module::deserialize_open_file(&engine.wasmtime, file).map(Code::Core)
        }
    }
}

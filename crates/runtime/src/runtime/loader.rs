//! How a module becomes ready to run: from memory, from the artifacts on disk, or by compiling it. All who ask for one
//! module at the same time wait for one compile.
//!
//! A module that nobody has compiled before answers first on baseline code, which Winch makes in a fraction of the time;
//! Cranelift's code is made behind it, by a process that gives way to all others, and takes its place.

mod behind;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mentat_manifest::{Init, Metering, ModuleDigest, escape_untrusted};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use super::cache::{ArtifactCache, Refused};
use super::code::{CodeConfig, Tier};
use super::compile::{self, CompileConfig, CompileRequest, Compiler, Priority, Tiers};
use super::engine::{Engine, EngineConfig, INSTANCE_METADATA_BYTES, MeteredEngine};
use super::improvements::{Improvement, Improvements};
use super::inspect::{ModuleInfo, invalid};
use super::module::{self, Code, Linked, Module};
use super::pool::{Pool, PoolConfig};
use crate::error::{Error, ModuleProblemKind};
use crate::security::audit::{Record, Recorder};

/// Bytes of an instance for each global, and for each function that can be referred to.
const GLOBAL_BYTES: u64 = 16;
const FUNCTION_BYTES: u64 = 32;
/// Bytes of the names of a module's imports and exports, all together, at most: they are kept beside its code.
const MAX_NAMES_BYTES: usize = 8 << 20;
/// Bytes of the modules that run on baseline code and wait for better, at most; they are held in memory.
const MAX_WAITING_BYTES: usize = 256 << 20;

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

/// How a module's code is made, beyond what the engine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Preparation {
    /// How executions are metered.
    pub metering: Metering,
    /// Whether they start from the memory of a module that is initialised already.
    pub init: Option<Init>,
}

impl From<Metering> for Preparation {
    fn from(metering: Metering) -> Self {
        Self { metering, init: None }
    }
}

/// What one artifact is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ModuleKey {
    pub(crate) digest: ModuleDigest,
    pub(crate) metering: Metering,
    pub(crate) init: Option<Init>,
}

/// A module in memory or on its way there.
#[derive(Debug, Clone)]
enum Slot {
    Ready(Weak<Module>),
    Loading(Arc<OnceCell<Result<Loaded, Error>>>),
}

/// Makes modules ready.
#[derive(Debug)]
pub(crate) struct Loader {
    engine_config: EngineConfig,
    config: CompileConfig,
    compiler: Compiler,
    engine: Engine,
    artifacts: ArtifactCache,
    audit: Option<Recorder>,
    /// Keeps the private artifact directory alive.
    _private: Option<tempfile::TempDir>,
    compiling: Pool,
    /// What runs already and gets better code: one at a time, and none of them keeps a new module waiting.
    improvements: Arc<Improvements<Module>>,
    behind: TaskTracker,
    modules: Mutex<HashMap<ModuleKey, Slot>>,
}

impl Loader {
    /// A loader whose artifacts are in a directory, or in a private one that goes with it.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the configuration does not fit this machine; `INTERNAL` when the directory cannot be used.
    pub(crate) fn new(
        engine_config: EngineConfig,
        config: CompileConfig,
        compiler: Compiler,
        artifacts: Option<PathBuf>,
        audit: Option<Recorder>,
    ) -> Result<Self, Error> {
        let (directory, private) = match artifacts {
            Some(directory) => (directory, None),
            None => {
                let private = tempfile::Builder::new()
                    .prefix("mentat-artifacts-")
                    .tempdir()
                    .map_err(|error| Error::internal("making a directory for artifacts", error))?;
                (private.path().to_owned(), Some(private))
            }
        };
        let queue =
            PoolConfig { queue_length: config.queue_length, queue_timeout_ms: config.queue_timeout_ms };
        Ok(Self {
            engine: Engine::new(engine_config.clone())?,
            compiling: Pool::new("compiles", config.concurrency.max(1), queue),
            improvements: Improvements::new(MAX_WAITING_BYTES),
            artifacts: ArtifactCache::open(&directory, config.cache)?,
            behind: TaskTracker::new(),
            modules: Mutex::default(),
            _private: private,
            audit,
            compiler,
            config,
            engine_config,
        })
    }

    /// Reads and checks a module without compiling it.
    ///
    /// # Errors
    /// `INVALID_MODULE` with everything that is wrong.
    pub(crate) fn check(&self, bytes: &[u8], how: Preparation) -> Result<ModuleInfo, Error> {
        let limit = self.config.max_module;
        if bytes.len() as u64 > limit.0 {
            return Err(invalid(
                ModuleProblemKind::Malformed,
                "size",
                format!("the module has {} bytes, the limit is {limit}", bytes.len()),
            ));
        }
        let info = ModuleInfo::read(bytes)?;
        let imports = info.imports.iter().map(|import| import.module.len() + import.name.len());
        let names: usize = imports.chain(info.exports.iter().map(|export| export.name.len())).sum();
        if names > MAX_NAMES_BYTES {
            return Err(invalid(
                ModuleProblemKind::Malformed,
                "names",
                format!(
                    "the names of its imports and exports have {names} bytes, the limit is {MAX_NAMES_BYTES}"
                ),
            ));
        }
        self.check_read(&info, how)?;
        Ok(info)
    }

    fn check_read(&self, info: &ModuleInfo, how: Preparation) -> Result<(), Error> {
        let engine = self.engine.of(how.metering, Tier::Optimized)?;
        module::check(info, engine, &self.engine_config)
    }

    /// Makes a module ready.
    ///
    /// # Errors
    /// As [`Runtime::load`](super::Runtime::load).
    pub(crate) async fn load(
        self: &Arc<Self>,
        bytes: Bytes,
        how: Preparation,
        tenant: &Arc<str>,
    ) -> Result<Loaded, Error> {
        let (this, module) = (Arc::clone(self), bytes.clone());
        let info = tokio::task::spawn_blocking(move || this.check(&module, how))
            .await
            .map_err(|error| Error::internal("checking the module", error))??;
        let key = ModuleKey { digest: info.digest, metering: how.metering, init: how.init };
        let make = async || match self.from_disk(key).await? {
            Some(loaded) => Ok(loaded),
            None => self.from_bytes(tenant, key, info, bytes).await,
        };
        let cell = match self.slot(&key) {
            Ok(module) => return Ok(Loaded { module, origin: CodeOrigin::Memory }),
            Err(cell) => cell,
        };
        let loaded = cell.get_or_init(make).await.clone();
        self.settle(&key, &cell, &loaded);
        loaded
    }

    /// Makes a module ready whose code is in memory or on disk, without its bytes.
    ///
    /// # Errors
    /// `INVALID_MODULE` when it cannot run here any more, as under a smaller limit than before.
    pub(crate) async fn load_kept(
        self: &Arc<Self>,
        digest: ModuleDigest,
        how: Preparation,
    ) -> Result<Option<Loaded>, Error> {
        let key = ModuleKey { digest, metering: how.metering, init: how.init };
        let in_memory = match self.modules.lock().get(&key) {
            Some(Slot::Ready(module)) => module.upgrade(),
            _ => None,
        };
        if let Some(module) = in_memory {
            return Ok(Some(Loaded { module, origin: CodeOrigin::Memory }));
        }
        let Some(loaded) = self.from_disk(key).await? else { return Ok(None) };
        let mut modules = self.modules.lock();
        if let Some(Slot::Ready(module)) = modules.get(&key)
            && let Some(module) = module.upgrade()
        {
            // Somebody was faster: there is one of each.
            return Ok(Some(Loaded { module, origin: CodeOrigin::Memory }));
        }
        modules.insert(key, Slot::Ready(Arc::downgrade(&loaded.module)));
        Ok(Some(loaded))
    }

    /// Forgets a module's compiled code on disk; executions that use it are not disturbed.
    pub(crate) fn forget(&self, digest: &ModuleDigest) {
        self.artifacts.remove(|name| name == *digest);
    }

    /// Forgets the compiled code on disk of all modules but these.
    pub(crate) fn forget_all_but(&self, kept: &HashSet<ModuleDigest>) {
        self.artifacts.remove(|digest| !kept.contains(&digest));
    }

    /// Artifacts that went to make room for others.
    pub(crate) fn evictions(&self) -> u64 {
        self.artifacts.evictions()
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

    /// Only the first to come back settles the slot; a later load may already own a new one.
    fn settle(
        &self,
        key: &ModuleKey,
        cell: &Arc<OnceCell<Result<Loaded, Error>>>,
        loaded: &Result<Loaded, Error>,
    ) {
        let mut modules = self.modules.lock();
        if matches!(modules.get(key), Some(Slot::Loading(current)) if Arc::ptr_eq(current, cell)) {
            match loaded {
                Ok(loaded) => modules.insert(*key, Slot::Ready(Arc::downgrade(&loaded.module))),
                Err(_) => modules.remove(key),
            };
        }
    }

    async fn from_disk(self: &Arc<Self>, key: ModuleKey) -> Result<Option<Loaded>, Error> {
        let this = Arc::clone(self);
        // Reads all of the artifact.
        tokio::task::spawn_blocking(move || this.map_kept(key))
            .await
            .map_err(|error| Error::internal("reading compiled code", error))?
    }

    fn map_kept(&self, key: ModuleKey) -> Result<Option<Loaded>, Error> {
        let engine = self.engine.of(key.metering, Tier::Optimized)?;
        let preparation = Preparation { metering: key.metering, init: key.init };
        let link = |file: File, info: ModuleInfo| -> Result<Option<Module>, Error> {
            self.check_read(&info, preparation)?;
            match map_code(engine, file, info.component) {
                Ok(code) => {
                    let linked = Linked::new(engine, &info, &code)?;
                    Ok(Some(Module::new(info, linked)))
                }
                Err(error) => {
                    tracing::warn!(%error, "compiled artifact does not fit; compiling again");
                    Ok(None)
                }
            }
        };
        match self.artifacts.get(&key, engine.compatibility, link) {
            Ok(None) => Ok(None),
            Ok(Some(linked)) => {
                Ok(linked?.map(|module| Loaded { module: Arc::new(module), origin: CodeOrigin::Disk }))
            }
            Err(refused) => {
                self.tell_of(&key, &refused);
                Ok(None)
            }
        }
    }

    /// Somebody changed what only this installation writes.
    fn tell_of(&self, key: &ModuleKey, refused: &Refused) {
        tracing::warn!(module = %key.digest, %refused, "compiled artifact refused; compiling again");
        if let Some(audit) = &self.audit {
            audit.record(Record::of_artifact(&key.digest, &refused.file, &refused.reason.to_string()));
        }
    }

    async fn from_bytes(
        self: &Arc<Self>,
        tenant: &Arc<str>,
        key: ModuleKey,
        info: ModuleInfo,
        bytes: Bytes,
    ) -> Result<Loaded, Error> {
        let turn = self.compiling.admit(1).await?;
        let started = Instant::now();
        if self.config.tiers != Tiers::Optimized && key.init.is_none() && may_be_baseline(&info) {
            match self.baseline(&key, &info, bytes.clone()).await {
                Ok(linked) => {
                    let module = Arc::new(Module::new(info, linked));
                    let origin = CodeOrigin::Compiled(started.elapsed());
                    drop(turn);
                    if self.config.tiers == Tiers::Both {
                        let (tenant, behind) = (Arc::clone(tenant), Arc::downgrade(&module));
                        self.improve(Improvement { tenant, key, module: behind, bytes, failures: 0 });
                    }
                    return Ok(Loaded { module, origin });
                }
                // What is too much work for Winch is so for Cranelift.
                Err(error) if is_over_limit(&error) => return Err(error),
                // Winch knows less of WebAssembly than Cranelift does.
                Err(error) => {
                    tracing::debug!(module = %key.digest, %error, "no baseline code; optimised code is made at once");
                }
            }
        }
        let linked = self.optimized(&key, &info, bytes, Priority::Awaited).await?;
        let module = Arc::new(Module::new(info, linked));
        Ok(Loaded { module, origin: CodeOrigin::Compiled(started.elapsed()) })
    }

    async fn baseline(&self, key: &ModuleKey, info: &ModuleInfo, bytes: Bytes) -> Result<Linked, Error> {
        let engine = self.engine.of(key.metering, Tier::Baseline)?;
        let scratch = self.scratch()?;
        let request = self.request(key, Tier::Baseline, scratch.to_path_buf(), Priority::Awaited);
        compile::compile_at(&self.compiler, request, bytes, self.patience()).await?;
        let file = File::open(&scratch).map_err(|error| Error::internal("reading compiled code", error))?;
        let code = map_code(engine, file, info.component)
            .map_err(|error| Error::internal("mapping baseline code", format!("{error:#}")))?;
        Linked::new(engine, info, &code)
    }

    async fn optimized(
        self: &Arc<Self>,
        key: &ModuleKey,
        info: &ModuleInfo,
        bytes: Bytes,
        priority: Priority,
    ) -> Result<Linked, Error> {
        let scratch = self.scratch()?;
        let request = self.request(key, Tier::Optimized, scratch.to_path_buf(), priority);
        compile::compile_at(&self.compiler, request, bytes, self.patience()).await?;
        let (this, key, info) = (Arc::clone(self), *key, info.clone());
        // Waits for the disk.
        tokio::task::spawn_blocking(move || this.keep(&key, &info, scratch))
            .await
            .map_err(|error| Error::internal("keeping the compiled module", error))?
    }

    fn keep(&self, key: &ModuleKey, info: &ModuleInfo, scratch: tempfile::TempPath) -> Result<Linked, Error> {
        let engine = self.engine.of(key.metering, Tier::Optimized)?;
        let file = self
            .artifacts
            .keep(key, engine.compatibility, info, scratch)
            .map_err(|error| Error::internal("keeping the compiled module", error))?;
        let code = map_code(engine, file, info.component).map_err(|error| {
            let said = escape_untrusted(&format!("{error:#}"), 512);
            invalid(
                ModuleProblemKind::MemoryFault,
                "module",
                format!("the module does not fit the engine: {said}"),
            )
        })?;
        Linked::new(engine, info, &code)
    }

    fn scratch(&self) -> Result<tempfile::TempPath, Error> {
        self.artifacts.scratch().map_err(|error| Error::internal("making a file for compiled code", error))
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.config.timeout_ms)
    }

    fn request(&self, key: &ModuleKey, tier: Tier, output: PathBuf, priority: Priority) -> CompileRequest {
        let code = CodeConfig { tier, ..self.engine_config.code(key.metering) };
        CompileRequest {
            code,
            init: key.init,
            output,
            priority,
            cpu_seconds: self.config.cpu_seconds,
            memory: self.config.memory,
        }
    }
}

/// Whether a compile took more than it may.
fn is_over_limit(error: &Error) -> bool {
    matches!(error, Error::InvalidModule { problems }
        if problems.iter().any(|problem| problem.kind == ModuleProblemKind::CompileLimit))
}

/// Whether a module can be tried on baseline code: no component, and none whose instances would be larger than the pool
/// has room for, which executions on baseline code do not come from.
fn may_be_baseline(info: &ModuleInfo) -> bool {
    let bytes = info
        .globals
        .saturating_mul(GLOBAL_BYTES)
        .saturating_add(info.functions.saturating_mul(FUNCTION_BYTES));
    !info.component && bytes <= INSTANCE_METADATA_BYTES as u64
}

#[allow(unsafe_code, reason = "mapping compiled code is unsafe by Wasmtime's design")]
fn map_code(engine: &MeteredEngine, file: File, component: bool) -> wasmtime::Result<Code> {
    // SAFETY: the file is an artifact that this installation's own compiler wrote, in a directory private to
    // the service. Either it has just been written, or it comes from `ArtifactCache`, which has just verified a
    // keyed digest over all of it but `.text` and `.rodata.wasm`. These are mapped, and neither read nor
    // executed before a module is instantiated; and nobody can do that before they are verified as well,
    // since what comes of this is not handed out until then.
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

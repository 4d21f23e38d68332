//! The executor: engines, compiled modules, permits, and one call after another, each in a sandbox
//! of its own. [`Runtime`] is the whole of it for embedders and for the service alike.

pub(crate) mod baseline;
pub(crate) mod brief;
pub(crate) mod cache;
pub(crate) mod code;
pub(crate) mod compile;
pub(crate) mod engine;
mod improvements;
pub(crate) mod inspect;
pub(crate) mod instance;
pub(crate) mod limits;
mod live;
pub(crate) mod loader;
mod machine;
pub(crate) mod memory;
pub(crate) mod module;
pub(crate) mod objects;
pub(crate) mod pool;
mod referred;
mod snapshot;
pub(crate) mod trap;
pub(crate) mod warm;

use std::collections::HashSet;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mentat_manifest::{ByteCount, ModuleDigest};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::brief::Expected;
use self::compile::{CompileConfig, Compiler};
use self::engine::EngineConfig;
use self::inspect::ModuleInfo;
use self::instance::{Afterwards, Kept, Sandbox};
use self::loader::{Loaded, Loader, Preparation};
use self::memory::MemoryBudget;
use self::module::{Linked, Module};
use self::pool::{Permit, Pool, PoolConfig};
use self::warm::{WarmConfig, WarmInstance, WarmInstances};
use crate::error::Error;
use crate::host::context::HostConfig;
pub use crate::host::context::SandboxLimits;
use crate::host::egress::Egress;
pub use crate::host::media::{BucketConfig, BucketCredentials, MediaConfig, MediaCounts, MediaPlace};
use crate::host::media::{MediaStore, ObjectStdin};
use crate::host::network::Network;
pub use crate::host::network::NetworkConfig;
use crate::host::quota::Storage;
use crate::host::scratch;
use crate::host::standard::StandardStreams;
use crate::model::{Caller, Invocation, Outcome};
use crate::security::audit::Recorder;
use crate::security::policy::{AgentIdentity, Grant};

/// How often instances are looked for that have waited too long.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What a runtime is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The engines and their pools.
    pub engine: EngineConfig,
    /// The queue before the pool.
    pub pool: PoolConfig,
    /// What a compile may take.
    pub compile: CompileConfig,
    /// The instances that are kept for agents that ask for it.
    pub warm: WarmConfig,
    /// What sandboxes may take of the machine.
    pub sandbox: SandboxLimits,
    /// How executions reach the network.
    pub network: NetworkConfig,
    /// Where objects of the media store are.
    pub media: MediaConfig,
    /// Where compiled code is kept; `None` for a private directory that goes with the runtime.
    pub artifacts: Option<PathBuf>,
    /// Where executions have their scratch directories; `None` for the system's own place for such.
    pub scratch: Option<PathBuf>,
}

/// Loads modules and executes them.
#[derive(Debug)]
pub struct Runtime {
    config: RuntimeConfig,
    host: Arc<HostConfig>,
    pool: Pool,
    loader: Arc<Loader>,
    warm: Arc<WarmInstances>,
    /// Takes down instances that waited for too long, from the first that is kept on.
    sweeper: OnceLock<()>,
    /// Instances that are made ahead of their executions.
    ahead: TaskTracker,
}

impl Runtime {
    /// Makes a runtime.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the configuration does not fit this machine; `INTERNAL` when the
    /// artifact directory cannot be used.
    pub fn new(config: RuntimeConfig, compiler: Compiler) -> Result<Self, Error> {
        Self::audited(config, compiler, None)
    }

    /// The same, which records compiled code that was changed by others.
    ///
    /// # Errors
    /// As [`Runtime::new`].
    pub fn audited(
        config: RuntimeConfig,
        compiler: Compiler,
        audit: Option<Recorder>,
    ) -> Result<Self, Error> {
        let (engine, compile, artifacts) = (&config.engine, &config.compile, &config.artifacts);
        let loader = Loader::new(engine.clone(), compile.clone(), compiler, artifacts.clone(), audit)?;
        if let Some(scratch) = &config.scratch {
            prepare_scratch(scratch)
                .map_err(|error| Error::internal("making a place for scratch files", error))?;
        }
        let network = Arc::new(Network::new(config.network.clone())?);
        let media = open_media(&config.media, &network)?;
        let host = Arc::new(HostConfig {
            table_elements: config.engine.table_elements,
            scratch: config.scratch.clone(),
            sandbox: config.sandbox.clone(),
            network,
            media: media.map(Arc::new),
            storage: Storage::default(),
            memory: Arc::new(MemoryBudget::new(config.engine.memory_budget())),
        });
        let pool = Pool::new("executions", config.engine.max_executions, config.pool.clone());
        let warm = Arc::new(WarmInstances::new(config.warm.clone()));
        let (sweeper, ahead) = (OnceLock::new(), TaskTracker::new());
        Ok(Self { config, host, pool, loader: Arc::new(loader), warm, sweeper, ahead })
    }

    /// The way onto the network of an execution that runs outside this process, by the rules of those that run in it. What is
    /// refused is told to its log.
    #[must_use]
    pub fn egress(&self, grant: &Grant, streams: &StandardStreams) -> Egress {
        Egress::new(Arc::clone(&self.host.network), grant.clone(), streams.logs().clone())
    }

    /// Who runs now.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Bytes of linear memory that all executions have now, and may have together.
    #[must_use]
    pub fn memory(&self) -> (ByteCount, ByteCount) {
        (self.host.memory.used(), self.host.memory.limit())
    }

    /// Artifacts on disk that went to make room for others.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.loader.evictions()
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
    pub fn check(&self, bytes: &[u8], how: impl Into<Preparation>) -> Result<ModuleInfo, Error> {
        self.loader.check(bytes, how.into())
    }

    /// Makes a module ready: from memory, from disk, or by compiling it. Callers that ask for the
    /// same module at the same time share one compile; when the one that does it goes away, another
    /// takes over.
    ///
    /// # Errors
    /// `INVALID_MODULE` when it cannot run here or cannot be compiled within the limits.
    pub async fn load(&self, bytes: Bytes, how: impl Into<Preparation>) -> Result<Loaded, Error> {
        self.load_for(&Caller::local().tenant, bytes, how).await
    }

    /// The same, on behalf of a tenant: of the modules that wait for optimised code, each tenant's get their turns.
    ///
    /// # Errors
    /// As [`Runtime::load`].
    pub async fn load_for(
        &self,
        tenant: &Arc<str>,
        bytes: Bytes,
        how: impl Into<Preparation>,
    ) -> Result<Loaded, Error> {
        self.loader.load(bytes, how.into(), tenant).await
    }

    /// Makes a module ready whose code is in memory or on disk; `None` where neither has it, and its bytes are needed.
    ///
    /// # Errors
    /// `INVALID_MODULE` when it cannot run here any more, as under a smaller limit than before.
    pub async fn load_kept(
        &self,
        digest: ModuleDigest,
        how: impl Into<Preparation>,
    ) -> Result<Option<Loaded>, Error> {
        self.loader.load_kept(digest, how.into()).await
    }

    /// Executes a module once, if it is over in as short a time as is expected and there is a place, without giving the
    /// thread away: about a millisecond, and a tenth of it where a short one is expected. Where this answers nothing, nothing
    /// has happened. Nobody is told what it logs but by the outcome, and it cannot be cancelled.
    pub fn execute_now(
        &self,
        module: &Module,
        grant: &Grant,
        input: &Bytes,
        expected: Expected,
    ) -> Option<Outcome> {
        let code = module.code();
        if !code.brevity.is_likely()
            || self.refers(grant, input)
            || grant.reused().is_some()
            || grant.ensure_audited().is_err()
        {
            return None;
        }
        let permit = self.pool.admit_now(code.places)?;
        brief::run(expected, &code, &self.host, grant, input, &permit)
    }

    /// Executes a module once, waiting for a place when all are taken. Cancelling the invocation, or dropping this
    /// future, ends it at once; the first tells what it cost until then.
    pub async fn execute(&self, module: &Module, grant: &Grant, invocation: Invocation) -> Outcome {
        if self.refers(grant, &invocation.input) {
            return Box::pin(self.execute_referred(module, grant, invocation)).await;
        }
        if !invocation.cancel.is_cancelled()
            && let Some(outcome) = self.execute_now(module, grant, &invocation.input, Expected::Brief)
        {
            if let Some(events) = &invocation.events {
                events.write_logs(&outcome.logs);
            }
            return outcome;
        }
        self.execute_anywhere(module, grant, invocation, None).await
    }

    async fn execute_anywhere(
        &self,
        module: &Module,
        grant: &Grant,
        invocation: Invocation,
        stdin: Option<ObjectStdin>,
    ) -> Outcome {
        let code = module.code();
        code.brevity.leave_out();
        let agent = grant.reused().filter(|_| self.warm.is_on() && code.is_reusable);
        let mut reuse = agent.map(|agent| Reuse::begin(self, agent, &code));
        let kept = reuse.as_mut().and_then(|reuse| reuse.instance.take());
        let sandbox = match kept {
            Some(WarmInstance { store, live, code, permit, uses, .. }) => {
                let kept = Some(Kept { store, live, uses });
                Ok(Sandbox { code, permit: permit.again(), kept, stdin })
            }
            None => {
                let permit = match self.pool.admit_now(code.places) {
                    Some(permit) => Ok(permit),
                    // Boxed, since it is rare: a future has room for all that it may wait for, and is copied.
                    None => Box::pin(self.admit(code.places, &invocation.cancel)).await,
                };
                permit.map(|permit| Sandbox { code, permit, kept: None, stdin })
            }
        };
        // Only now: who waited for a place waited while the log can have failed.
        let sandbox = sandbox.and_then(|sandbox| grant.ensure_audited().map(|()| sandbox));
        let afterwards = if reuse.is_some() { Afterwards::Kept } else { Afterwards::Dropped };
        match sandbox {
            Ok(sandbox) => {
                let code = reuse.as_ref().map(|_| Arc::clone(&sandbox.code));
                let (outcome, instance) =
                    instance::run(sandbox, &self.host, grant, invocation, afterwards).await;
                if let (Some(mut reuse), Some(code)) = (reuse, code) {
                    reuse.instance = instance;
                    let agent = reuse.agent.clone();
                    drop(reuse);
                    self.make_ahead(agent, code, grant);
                }
                outcome
            }
            Err(error) => Outcome::failed(error),
        }
    }

    /// Waits for places. Those that instances take which wait for nothing are given up first.
    async fn admit(&self, places: u32, cancel: &CancellationToken) -> Result<Permit, Error> {
        // The queue may be full, or none.
        while self.warm.give_way() {
            if let Some(permit) = self.pool.admit_now(places) {
                return Ok(permit);
            }
        }
        let mut admitted = pin!(self.pool.admit(places));
        // In the queue before the look: an execution that ends from now on sees that, and leaves no instance.
        loop {
            let now = poll_fn(|context| Poll::Ready(admitted.as_mut().poll(context))).await;
            if let Poll::Ready(admitted) = now {
                return admitted;
            }
            if !self.warm.give_way() {
                break;
            }
        }
        tokio::select! {
            admitted = admitted => admitted,
            () = cancel.cancelled() => Err(Error::Cancelled),
        }
    }

    /// Makes another instance of an agent that was busier lately than it has instances for, while there is room.
    fn make_ahead(&self, agent: AgentIdentity, code: Arc<Linked>, grant: &Grant) {
        if self.pool.active() > self.pool.size() / 2 {
            return;
        }
        let Some(permit) = self.pool.admit_now(code.places).filter(|_| self.warm.wants_one(&agent)) else {
            return;
        };
        let (warm, host, grant) = (Arc::clone(&self.warm), Arc::clone(&self.host), grant.powerless());
        self.ahead.spawn(async move {
            let made = instance::make_ahead(code, &host, &grant, permit).await;
            warm.made_ahead(&agent, made);
        });
    }

    /// Instances that wait for the next execution of their agent.
    #[must_use]
    pub fn warm_instances(&self) -> usize {
        self.warm.waiting()
    }

    /// What happened to objects of the media store since the start.
    #[must_use]
    pub fn media_counts(&self) -> MediaCounts {
        self.host.media.as_ref().map(|store| store.counts()).unwrap_or_default()
    }

    /// Deletes objects of the media store that have been kept for long enough, and counts what tenants have stored. Tells
    /// the log where it cannot.
    pub async fn sweep_media(&self) {
        if let Some(store) = &self.host.media
            && let Err(error) = store.sweep(SystemTime::now().into()).await
        {
            tracing::warn!(%error, "sweeping the media store");
        }
    }

    /// Forgets a module's compiled code on disk; executions that use it are not disturbed.
    pub fn forget(&self, digest: &ModuleDigest) {
        self.loader.forget(digest);
    }

    /// Forgets the compiled code on disk of all modules but these.
    pub fn forget_all_but(&self, kept: &HashSet<ModuleDigest>) {
        self.loader.forget_all_but(kept);
    }
}

/// An execution of an agent whose instances are used again.
struct Reuse<'a> {
    runtime: &'a Runtime,
    agent: AgentIdentity,
    /// What it begins with, and then what it leaves.
    instance: Option<WarmInstance>,
}

impl<'a> Reuse<'a> {
    fn begin(runtime: &'a Runtime, agent: AgentIdentity, code: &Arc<Linked>) -> Self {
        runtime.sweeper.get_or_init(|| sweep_from_now_on(&runtime.warm));
        let instance = runtime.warm.take(&agent, code);
        Self { runtime, agent, instance }
    }
}

impl Drop for Reuse<'_> {
    fn drop(&mut self) {
        let Runtime { warm, pool, host, .. } = self.runtime;
        // What waits leaves half of all memory to what runs.
        let is_room = host.memory.used().0 <= host.memory.limit().0 / 2;
        warm.end(&self.agent, self.instance.take().filter(|_| is_room));
        // And its place to who waits for one. After it was put there: who came to wait before saw it, or is seen here.
        while pool.is_awaited() && warm.give_way() {}
    }
}

/// Looks for instances that have waited too long, until the runtime is gone.
fn sweep_from_now_on(warm: &Arc<WarmInstances>) {
    let warm = Arc::downgrade(warm);
    let looking = std::thread::Builder::new().name("mentat-warm".into()).spawn(move || {
        while let Some(warm) = warm.upgrade() {
            warm.sweep();
            drop(warm);
            std::thread::sleep(SWEEP_EVERY);
        }
    });
    if let Err(error) = looking {
        tracing::warn!(%error, "no thread for taking down instances that wait; they go when their places are needed");
    }
}

/// Makes the directory of a media store, and removes what uploads left there that were killed: it belongs to one runtime at
/// a time, but for a user's own.
fn open_media(config: &MediaConfig, network: &Arc<Network>) -> Result<Option<MediaStore>, Error> {
    let failed = |error| Error::internal("making the media directory", error);
    if let MediaPlace::Directory(directory) = &config.place {
        std::fs::create_dir_all(directory).map_err(failed)?;
        match std::fs::remove_dir_all(directory.join("parts")) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    MediaStore::new(config.clone(), network)
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

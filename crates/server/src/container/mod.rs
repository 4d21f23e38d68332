//! Agents in containers: the same contract as that of modules, held by a container engine. This file is the room's one
//! door: images are found, agents executed, and what is left of them is removed.
//!
//! Knows nothing of the registry and of who asks; what an agent may have, its grant says.

mod body;
mod dialogue;
mod egress;
mod engine;
mod execution;
mod files;
mod image;
mod process;
mod sandbox;
mod survey;
mod sweep;
mod system_calls;
mod users;
mod warm;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mentat_manifest::{Manifest, ModuleDigest};
use mentat_runtime::error::Error;
use mentat_runtime::model::{ExecutionId, Invocation, Outcome};
use mentat_runtime::security::policy::Grant;
use mentat_runtime::{Permit, Pool, PoolConfig, Runtime};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use self::engine::{Engine, EngineError};
use self::sandbox::Sandbox;
use self::users::{User, Users};
use self::warm::WarmContainers;
use crate::config::ContainerSection;
use crate::telemetry::ContainerLevels;

pub(crate) use self::files::PlainFiles;
pub use self::survey::{FileUse, ImageFacts, Program, Recording, Seen, Survey};
pub(crate) use self::sweep::{ServerId, keep_swept};
pub(crate) use self::warm::keep_fresh;

/// When to ask again for an engine that does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The containers of a server.
#[derive(Debug)]
pub struct Containers {
    section: ContainerSection,
    /// There is none where the operator configured none.
    engine: Option<Engine>,
    pool: Pool,
    /// What the end of the server waits for.
    tasks: TaskTracker,
    /// Whose containers these are, among all of the engine's.
    server: ServerId,
    /// The runs whose containers are not to be swept away.
    live: Mutex<HashSet<RunId>>,
    /// A container may have been left.
    left: Notify,
    /// Containers that were swept away.
    swept: AtomicU64,
    /// By whose rules they reach the network.
    runtime: Arc<Runtime>,
    /// What each finds in place of what engines make.
    files: PlainFiles,
    /// Those that wait for the next execution of their agent.
    warm: WarmContainers,
    /// Whom each runs as.
    users: Arc<Users>,
}

/// The image of an agent, as the engine knew it when the agent was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// As the manifest has it.
    pub name: Arc<str>,
    /// Of its configuration, by which it is executed: a name can come to mean another image.
    pub id: ModuleDigest,
}

/// An agent that is to be executed in a container.
#[derive(Clone, Debug)]
pub struct ContainerAgent<'a> {
    /// Its image.
    pub image: &'a Image,
    /// Its manifest.
    pub manifest: &'a Manifest,
}

/// One run of a container, known before the container has an id.
type RunId = String;

/// Keeps the container of a run from being swept away.
#[derive(Debug)]
struct Live {
    containers: Arc<Containers>,
    run: RunId,
    /// The engine's id of it, once there is one.
    id: Arc<OnceLock<String>>,
    /// What makes it, until that has come to its end.
    making: Mutex<Option<JoinHandle<()>>>,
    /// Whom it runs as, where that is nobody else.
    user: Mutex<Option<User>>,
    /// Nothing of it is there any more.
    is_removed: AtomicBool,
}

impl Containers {
    /// Containers of a server, on the engine of the configuration; it is not asked for anything yet.
    #[must_use]
    pub fn new(
        section: ContainerSection,
        queue: PoolConfig,
        server: ServerId,
        tasks: TaskTracker,
        runtime: Arc<Runtime>,
        files: PlainFiles,
    ) -> Self {
        let patience = Duration::from_millis(section.engine_ms);
        let engine = section.is_given().then(|| Engine::new(section.socket.clone(), patience));
        let pool = Pool::new("containers", section.max_executions, queue);
        let warm = WarmContainers::new(section.warm.clone());
        let users = Users::new(section.users.clone());
        Self {
            section,
            engine,
            pool,
            tasks,
            server,
            live: Mutex::default(),
            left: Notify::new(),
            swept: AtomicU64::new(0),
            runtime,
            files,
            warm,
            users,
        }
    }

    /// Finds the image of an agent that is being loaded, fetching it where that is allowed.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where there is no engine, the image is not one that agents may have, or is not there;
    /// `UNAVAILABLE` where the engine does not answer.
    pub async fn image(&self, manifest: &Manifest) -> Result<Image, Error> {
        let Some(engine) = &self.engine else {
            let message = format!(
                "agent `{}` is a container agent, and this server has no container engine; the operator names one by \
                 `container.socket`",
                manifest.id
            );
            return Err(Error::InvalidRequest { message });
        };
        if let Some(cpus) = manifest.cpus().filter(|cpus| *cpus > self.section.max_cpus) {
            let message = format!(
                "`resources.cpu` of {cpus} is over `container.max_cpus` of {}; ask for less, or have the operator raise it",
                self.section.max_cpus
            );
            return Err(Error::InvalidRequest { message });
        }
        if let Some(memory) = manifest.limits_request().memory_bytes {
            sandbox::check_memory(memory)?;
        }
        image::find(engine, &self.section, manifest.image.as_deref().unwrap_or_default()).await
    }

    /// Whether the operator configured an engine.
    #[must_use]
    pub fn are_there(&self) -> bool {
        self.engine.is_some()
    }

    /// Whether there is an engine, and it did what it was asked for lately.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.engine.as_ref().is_some_and(Engine::is_up)
    }

    /// Whether an agent whose module cannot run here has an image to be executed instead. It is given what its module might
    /// have as well, so that nothing is gained by one that cannot run.
    #[must_use]
    pub fn falls_back_to(&self, manifest: &Manifest) -> bool {
        self.engine.is_some() && self.section.fallback && manifest.image.is_some()
    }

    /// Executes an agent once, waiting for a place where all are taken. To be awaited to its end, which cancelling the
    /// invocation brings about. Its container is ended and removed afterwards, and has its place until then.
    pub async fn execute(
        self: &Arc<Self>,
        agent: ContainerAgent<'_>,
        grant: &Grant,
        invocation: Invocation,
    ) -> Outcome {
        let Some(engine) = &self.engine else {
            let message =
                "this server has no container engine any more; the operator names one by `container.socket`";
            return Outcome::failed(Error::Unavailable { message: message.into(), retry_after: RETRY_AFTER });
        };
        let admitted = tokio::select! {
            admitted = self.pool.admit(1) => admitted,
            () = invocation.cancel.cancelled() => Err(Error::Cancelled),
        };
        // Who waited for a place waited while the log can have failed.
        match admitted.and_then(|permit| grant.ensure_audited().map(|()| permit)) {
            Ok(permit) if agent.manifest.reads_many_inputs() => {
                dialogue::execute(engine, self, &agent, grant, invocation, permit).await
            }
            Ok(permit) => {
                let live = Live::new(self);
                let outcome = execution::run(engine, &live, &agent, grant, invocation, permit.queued()).await;
                live.remove_holding(permit);
                outcome
            }
            Err(error) => Outcome::failed(error),
        }
    }

    /// What rises and falls.
    #[must_use]
    pub fn levels(&self) -> ContainerLevels {
        let (warm, [reused, recycled, busy]) = self.warm.counts();
        ContainerLevels {
            active: self.pool.active(),
            places: if self.engine.is_some() { self.pool.size() } else { 0 },
            engine_up: self.is_up(),
            swept: self.swept.load(Ordering::Relaxed),
            warm,
            reused,
            recycled,
            busy,
        }
    }
}

impl Live {
    fn new(containers: &Arc<Containers>) -> Self {
        let run = ExecutionId::new().to_string();
        containers.live.lock().insert(run.clone());
        Self {
            containers: Arc::clone(containers),
            run,
            id: Arc::default(),
            making: Mutex::default(),
            user: Mutex::default(),
            is_removed: AtomicBool::new(false),
        }
    }

    /// Whom the container is to run as, `USER:GROUP` in numbers: somebody who is nobody else. Where it has a directory of the
    /// operator's, whom the operator says, for files belong to users.
    ///
    /// # Errors
    /// `OVERLOADED` where containers that could not be removed have all the numbers.
    fn user(&self, sandbox: &Sandbox) -> Result<String, Error> {
        let section = &self.containers.section;
        if !sandbox.mounts.is_empty() {
            return Ok(section.user.clone());
        }
        let Some(user) = self.containers.users.take() else {
            let message = "every one of `container.users` is a container's that is there still; the server's log says why";
            return Err(Error::Overloaded { message: message.into(), retry_after: RETRY_AFTER });
        };
        let group = section.user_and_group().map(|(_, group)| group).unwrap_or_else(|| user.number());
        let numbers = format!("{}:{group}", user.number());
        *self.user.lock() = Some(user);
        Ok(numbers)
    }

    /// Removes the container when there is time for it, and gives its place back then.
    fn remove_holding(self, permit: Permit) {
        let tasks = self.containers.tasks.clone();
        tasks.spawn(async move {
            self.remove().await;
            drop(permit);
        });
    }

    /// The same of one that has no place.
    fn remove_soon(self) {
        let tasks = self.containers.tasks.clone();
        tasks.spawn(async move { self.remove().await });
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.containers.live.lock().remove(&self.run);
        // From here on a sweep removes it.
        if !*self.is_removed.get_mut()
            && let Some(user) = self.user.get_mut().take()
        {
            user.leave();
        }
    }
}

/// The engine did not do what it was asked for, for no fault of the agent's. The cause is for the log.
fn unavailable(engine: &Engine, what: &str, error: &EngineError) -> Error {
    tracing::warn!(socket = %engine.socket(), %error, what, "the container engine");
    let message = match error {
        EngineError::Away(_) => format!(
            "the container engine does not answer ({what}); the operator sees to it that it runs and listens where \
             `container.socket` says; agents that are modules are executed as ever"
        ),
        EngineError::Garbled => {
            "the container engine lost some of what the agent has written; an agent reads all of its input before it ends"
                .into()
        }
        EngineError::Refused { .. } | EngineError::Unreadable(_) => {
            format!("the container engine refused to do its part ({what}); the server's log says why")
        }
    };
    Error::Unavailable { message, retry_after: RETRY_AFTER }
}

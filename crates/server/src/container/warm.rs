//! Containers that are kept for the next execution of the same agent, tenant and powers, where the manifest says that the
//! program reads many inputs (`instances: reuse`): which of them wait, for whom, and until when.
//!
//! Invariant: a container serves one execution at a time, and comes back only from one that it has answered, with nothing
//! written since. Whatever else happens to it, it is removed; so is one that computes while it waits, which is nobody's time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use mentat_manifest::{AgentId, AgentVersion, Capability, Listed, ModuleDigest};
use mentat_runtime::security::policy::Grant;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, Piece};
use super::execution::Started;
use super::sandbox::Sandbox;
use super::{ContainerAgent, Containers, Live};
use crate::config::WarmContainersConfig;

/// How often those that wait are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Who has waited for longer is asked for at the engine before it is given an input.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// What that question may take: starting another container is not much slower.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// Pieces of a log that are read off one that waits in one go; what writes more is not waiting.
const MAX_IDLE_PIECES: usize = 64;
/// Processor time that one uses while it waits, at most: to tidy up behind an answer, and for what a language runtime does by
/// the clock, of this part of the time that it waits.
const MAX_IDLE_WORK: Duration = Duration::from_millis(100);
const IDLE_WORK_PART: u32 = 50;

/// Containers that wait.
#[derive(Debug)]
pub(super) struct WarmContainers {
    config: WarmContainersConfig,
    /// Those that have waited longest are the first.
    waiting: Mutex<Waiting>,
    reused: AtomicU64,
    dropped: AtomicU64,
    busy: AtomicU64,
    /// It has been said that none are kept.
    is_told: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    containers: VecDeque<WarmContainer>,
    /// None are kept any more.
    is_closed: bool,
}

/// Whose container it is, and what it was given. Nothing of that may differ for another execution.
#[derive(Debug)]
pub(super) struct Purpose {
    tenant: Arc<str>,
    agent: AgentId,
    version: AgentVersion,
    image: ModuleDigest,
    /// As it was loaded: an agent that is loaded again begins afresh.
    manifest: Arc<Listed>,
    sandbox: Sandbox,
    /// What callers left to it: some of that is asked for while a program runs, and is not in its sandbox.
    left: Vec<Vec<Capability>>,
}

/// A container that has started and has an input to read yet.
pub(super) struct WarmContainer {
    pub(super) purpose: Purpose,
    pub(super) started: Started,
    pub(super) live: Live,
    /// Executions that it has answered.
    uses: u32,
    /// When it gave its last answer, and what it had computed by then; `None` where that cannot be told.
    since: Instant,
    computed: Option<Duration>,
}

/// How one that waits does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// As it should.
    Quiet,
    /// It computes.
    Busy,
    /// It has ended, writes, or cannot be looked at.
    Disturbed,
}

impl Purpose {
    pub(super) fn new(
        tenant: &Arc<str>,
        agent: &ContainerAgent<'_>,
        grant: &Grant,
        sandbox: Sandbox,
    ) -> Self {
        let manifest = agent.manifest;
        Self {
            tenant: Arc::clone(tenant),
            agent: manifest.id.clone(),
            version: manifest.version.clone(),
            image: agent.image.id,
            manifest: Arc::clone(manifest.listed()),
            sandbox,
            left: grant.left().to_vec(),
        }
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn is_agents(&self, other: &Self) -> bool {
        self.tenant == other.tenant
            && self.agent == other.agent
            && self.version == other.version
            && self.image == other.image
            && Arc::ptr_eq(&self.manifest, &other.manifest)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.is_agents(other) && self.sandbox == other.sandbox && self.left == other.left
    }
}

impl WarmContainers {
    pub(super) fn new(config: WarmContainersConfig) -> Self {
        let (reused, dropped, busy, is_told) = Default::default();
        Self { config, waiting: Mutex::default(), reused, dropped, busy, is_told }
    }

    /// A container for an execution: of those that wait, the one that was used last and is well. Those that are not are
    /// removed.
    pub(super) async fn take(&self, engine: &Engine, purpose: &Purpose) -> Option<WarmContainer> {
        while let Some(mut container) = self.next(purpose) {
            let has_waited = container.since.elapsed();
            let is_well = has_waited < self.config.idle()
                && self.look_at(&mut container) == Rest::Quiet
                && (has_waited < LOOK_AFTER || is_running(engine, &container.started.id).await);
            if is_well {
                self.reused.fetch_add(1, Ordering::Relaxed);
                return Some(container);
            }
            self.dropped.fetch_add(1, Ordering::Relaxed);
            container.live.remove_soon();
        }
        None
    }

    fn next(&self, purpose: &Purpose) -> Option<WarmContainer> {
        let mut waiting = self.waiting.lock();
        let place = waiting.containers.iter().rposition(|container| container.purpose.is_same(purpose))?;
        waiting.containers.remove(place)
    }

    /// Keeps a container that has answered. Where there is no room, one goes: of its own agent's, or else the one that has
    /// waited longest. None is kept whose computing could not be bounded.
    pub(super) fn keep(&self, container: WarmContainer) {
        let can_wait = container.computed.is_some();
        if !container.started.processor_time.is_known() && !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "no containers are kept: their control groups, by which the server sees what they compute while they wait, cannot \
                 be read"
            );
        }
        let is_fit = can_wait && container.uses < self.config.max_uses;
        let gone = if is_fit { self.put(container) } else { Some(container) };
        if let Some(gone) = gone {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            gone.live.remove_soon();
        }
    }

    fn put(&self, container: WarmContainer) -> Option<WarmContainer> {
        let (all, own) = (count(self.config.max_containers), count(self.config.per_agent));
        let mut waiting = self.waiting.lock();
        if waiting.is_closed || all == 0 || own == 0 {
            return Some(container);
        }
        let is_own = |kept: &WarmContainer| kept.purpose.is_agents(&container.purpose);
        let full = if waiting.containers.iter().filter(|kept| is_own(kept)).count() >= own {
            waiting.containers.iter().position(is_own)
        } else {
            (waiting.containers.len() >= all).then_some(0)
        };
        let gone = full.and_then(|place| waiting.containers.remove(place));
        waiting.containers.push_back(container);
        gone
    }

    /// Removes those that have waited for too long, have ended, compute, or write without having been asked.
    fn sweep(&self) {
        let mut waiting = self.waiting.lock();
        let all = std::mem::take(&mut waiting.containers);
        let (gone, kept): (VecDeque<_>, VecDeque<_>) = all
            .into_iter()
            .map(|mut container| {
                let is_gone = container.since.elapsed() >= self.config.idle()
                    || self.look_at(&mut container) != Rest::Quiet;
                (is_gone, container)
            })
            .partition(|(is_gone, _)| *is_gone);
        waiting.containers = kept.into_iter().map(|(_, container)| container).collect();
        drop(waiting);
        for (_, container) in gone {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            container.live.remove_soon();
        }
    }

    /// Keeps none from here on; those that wait are the last sweep's, and have their streams until then: a program that is
    /// left alone would end while it is removed.
    pub(super) fn close(&self) {
        self.waiting.lock().is_closed = true;
    }

    /// Forgets those that waited.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut self.waiting.lock().containers);
        drop(gone);
    }

    /// How many wait, how many executions were answered by one that had waited, how many were removed that had, and how many of
    /// those because they computed.
    pub(super) fn counts(&self) -> (usize, [u64; 3]) {
        let waiting = self.waiting.lock().containers.len();
        (waiting, [&self.reused, &self.dropped, &self.busy].map(|count| count.load(Ordering::Relaxed)))
    }

    /// Looks how one does; that it computes is counted and said, since it is then removed.
    fn look_at(&self, container: &mut WarmContainer) -> Rest {
        let rest = container.rest();
        if rest == Rest::Busy {
            self.busy.fetch_add(1, Ordering::Relaxed);
            let Purpose { tenant, agent, version, .. } = &container.purpose;
            tracing::warn!(%tenant, %agent, %version, "a container that computes while it waits is removed");
        }
        rest
    }
}

impl WarmContainer {
    /// One that has answered nothing yet.
    pub(super) fn new(purpose: Purpose, started: Started, live: Live) -> Self {
        Self { purpose, started, live, uses: 0, since: Instant::now(), computed: None }
    }

    /// It waits from here on.
    pub(super) fn has_answered(&mut self) {
        self.uses = self.uses.saturating_add(1);
        self.since = Instant::now();
        self.computed = self.started.processor_time.look();
    }

    fn rest(&mut self) -> Rest {
        if !self.is_quiet() {
            return Rest::Disturbed;
        }
        let Some((then, now)) = self.computed.zip(self.started.processor_time.look()) else {
            return Rest::Disturbed;
        };
        let allowed = MAX_IDLE_WORK + self.since.elapsed() / IDLE_WORK_PART;
        if now.saturating_sub(then) > allowed { Rest::Busy } else { Rest::Quiet }
    }

    /// Whether it has not ended, and has written nothing that would be taken for the answer to what it is asked next. What it
    /// logs while it waits belongs to nobody.
    fn is_quiet(&mut self) -> bool {
        for _ in 0..MAX_IDLE_PIECES {
            match self.started.attached.pieces.next().now_or_never() {
                None => return true,
                Some(Some(Ok(Piece::Log(_)))) => {}
                Some(None | Some(Ok(Piece::Output(_)) | Err(_))) => return false,
            }
        }
        false
    }
}

/// Whether the engine says so, soon enough.
async fn is_running(engine: &Engine, id: &str) -> bool {
    tokio::time::timeout(LOOK_WITHIN, engine.is_running(id)).await.is_ok_and(Result::unwrap_or_default)
}

/// Looks through the containers that wait until the service closes.
pub(crate) async fn keep_fresh(containers: Arc<Containers>, closing: CancellationToken) {
    let mut looks = tokio::time::interval(SWEEP_EVERY);
    while closing.run_until_cancelled(looks.tick()).await.is_some() {
        containers.warm.sweep();
    }
    containers.warm.close();
}

impl fmt::Debug for WarmContainer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WarmContainer")
            .field("id", &self.started.id)
            .field("uses", &self.uses)
            .finish_non_exhaustive()
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

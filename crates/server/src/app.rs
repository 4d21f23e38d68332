//! Builds everything once, opens the doors, and owns the end: no more calls are taken, those that run may finish,
//! what does not finish in time is ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mentat_runtime::error::Error;
use mentat_runtime::events::EventRoom;
use mentat_runtime::security::attestation::Attestations;
use mentat_runtime::security::audit::{AuditConfig, Recorder, TrailSource};
use mentat_runtime::security::authority::Authority;
use mentat_runtime::{Compiler, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::anchors::TrustFiles;
use crate::auth::Authenticator;
use crate::config::ServerConfig;
use crate::container::{Containers, PlainFiles, ServerId, keep_fresh, keep_swept};
use crate::dispatch::{Dispatcher, Records, Sources, Trails};
use crate::door::Door;
use crate::executions::Executions;
use crate::guests::{GuestRuntime, GuestThreads};
use crate::oci::OciRegistries;
use crate::published::PublishedStreams;
use crate::registry::{MemoryRoom, Registry};
use crate::signatures::Signatures;
use crate::store::AgentStore;
use crate::telemetry::Metrics;
use crate::transport::{Listener, Protocol, Traffic, TransportLimits, acceptor};
use crate::{anchors, gateway, grpc, policies};

/// How often the media store is looked through for objects that have been kept for long enough.
const MEDIA_SWEEP: Duration = Duration::from_secs(10 * 60);
/// How often events are looked for that have been kept for long enough.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How long executions that are ended at the end of the grace have for that.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A service that listens.
#[derive(Debug)]
pub struct App {
    grpc: SocketAddr,
    http: SocketAddr,
    grace: Duration,
    /// Cancelled when no more calls are to be taken.
    closing: CancellationToken,
    /// The doors, their connections, and the executions.
    tasks: TaskTracker,
    audit: Recorder,
    dispatcher: Arc<Dispatcher>,
    containers: Arc<Containers>,
    /// Ends the guests' threads with the service.
    _guests: GuestRuntime,
}

impl App {
    /// Builds the service and opens its doors; when this answers, calls are taken.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a configuration that does not fit this machine, a data directory in use, an address that
    /// cannot be listened at; `INTERNAL` for a disk that refuses.
    pub async fn start(config: &ServerConfig, compiler: Compiler) -> Result<Self, Error> {
        let policies = policies::read(&config.policy.dir)?;
        let (parsed, offers) = (policies::parse(&policies)?, config.offers()?);
        let attested = TrustFiles::new(&config.attestation);
        let rules = config.attestation.rules();
        let rules = rules.map_err(|error| Error::InvalidRequest { message: error.to_string() })?;
        // Before they are read, so that what changes meanwhile is read again.
        let attested_by = attested.find()?;
        let verifier = attested.read()?;
        let lists = verifier.revocations().clone();
        let attestations = Arc::new(Attestations::new(rules, verifier));
        // First of all that is locked: who starts a server twice is told of the data directory, which has the rest in it.
        let store = Arc::new(AgentStore::open(&config.server.data_dir, config.quota())?);
        // Whatever an agent writes into what it asks for: no secret gets into the log.
        let audit_config =
            AuditConfig { sensitive: offers.secret_values().collect(), ..config.audit_config() };
        let audit = Recorder::open(&audit_config)
            .map_err(|error| Error::InvalidRequest { message: error.to_string() })?;
        let trails = Trails::new(TrailSource {
            folder: audit_config.folder.clone(),
            archive: audit_config.retention.archive.clone(),
        });
        let on_violation = config.security.on_violation;
        let authority =
            Arc::new(Authority::new(config.rules(), on_violation, offers, parsed, Some(audit.clone())));
        let runtime_config =
            config.runtime_config().map_err(|error| Error::InvalidRequest { message: error.to_string() })?;
        let oci_client =
            config.oci_client().map_err(|error| Error::InvalidRequest { message: error.to_string() })?;
        let runtime = Arc::new(Runtime::audited(runtime_config, compiler, Some(audit.clone()))?);
        let metrics = Arc::new(Metrics::new());
        let room = MemoryRoom {
            agents: usize::try_from(config.registry.in_memory).unwrap_or(usize::MAX),
            code: config.registry.code_in_memory,
        };
        let signatures =
            Arc::new(Signatures::new(Arc::clone(&attestations), Arc::clone(&metrics), Some(audit.clone())));
        let tasks = TaskTracker::new();
        let server = ServerId::of(&config.server.data_dir)?;
        let files = match config.container.is_given() {
            true => PlainFiles::write(&config.server.data_dir)?,
            false => PlainFiles::default(),
        };
        let containers = Containers::new(
            config.container.clone(),
            config.pool.clone(),
            server,
            tasks.clone(),
            Arc::clone(&runtime),
            files,
        );
        let containers = Arc::new(containers);
        let rollout = Arc::new(config.rollout.rollout());
        let registry = Registry::new(
            store,
            Arc::clone(&runtime),
            Arc::clone(&containers),
            rollout,
            config.rules(),
            signatures,
            room,
        );
        let remembered = usize::try_from(config.executions.remembered).unwrap_or(usize::MAX);
        let room = Arc::new(EventRoom::new(config.streams.room()));
        let executions = Executions::new(remembered, config.streams.limits(), Arc::clone(&room));
        let patience = Duration::from_millis(config.streams.idle_ms);
        let published = Arc::new(PublishedStreams::new(Arc::clone(&room), patience));
        let (threads, guests) = GuestThreads::start(config.server.guest_threads, tasks.clone())?;
        let sweeping = Arc::clone(&runtime);
        let dispatcher = Dispatcher::new(
            runtime,
            Arc::clone(&containers),
            Sources { registry, oci: OciRegistries::new(oci_client, config.oci.concurrent) },
            Arc::clone(&authority),
            Arc::clone(&metrics),
            threads,
            Records { executions, published: Arc::clone(&published), trails },
        );
        let closing = CancellationToken::new();
        tasks.spawn(forget_old_events(room, published, closing.clone()));
        tasks.spawn(keep_swept(Arc::clone(&containers), closing.clone()));
        tasks.spawn(keep_fresh(Arc::clone(&containers), closing.clone()));
        let dispatcher = Arc::new(dispatcher);
        let limits = transport_limits(config);
        let sockets = usize::try_from(config.streams.max_sockets).unwrap_or(usize::MAX);
        let sockets = sockets.min(Semaphore::MAX_PERMITS);
        let state = Arc::new(Door {
            dispatcher: Arc::clone(&dispatcher),
            authenticator: Arc::new(Authenticator::new(&config.auth)),
            metrics,
            traffic: Arc::clone(&limits.traffic),
            max_message: config.server.max_message,
            max_object: config.media.object_bytes,
            max_module: config.compile.max_module,
            names: config.host_names(),
            heartbeat: Duration::from_millis(config.streams.heartbeat_ms.max(1)),
            idle_timeout: limits.idle_timeout,
            max_event: config.streams.buffer,
            sockets: Arc::new(Semaphore::new(sockets)),
            max_sockets: sockets,
            closing: closing.clone(),
            tasks: tasks.clone(),
        });
        tasks.spawn(sweep_media(sweeping, closing.clone()));
        let folder = &config.policy.dir;
        if !folder.as_os_str().is_empty() && config.policy.reload_ms > 0 {
            let every = Duration::from_millis(config.policy.reload_ms);
            let folder = Arc::from(folder.as_path());
            tasks.spawn(policies::watch(folder, policies, authority, every, closing.clone()));
        }
        let (replaced, replacements) = watch::channel(());
        tasks.spawn(review_signatures(Arc::clone(&dispatcher), replacements, closing.clone()));
        if !attested.is_empty() && config.attestation.reload_ms > 0 {
            let every = Duration::from_millis(config.attestation.reload_ms);
            let put = move |verifier| {
                attestations.replace(verifier);
                // Nobody looks through the agents any more where the service is closing.
                let _ = replaced.send(());
            };
            tasks.spawn(anchors::watch(attested, attested_by, lists, put, every, closing.clone()));
        }
        let (grpc_address, http_address) = (config.server.grpc_listen, config.server.http_listen);
        let grpc_door = Listener::bind("server.grpc_listen", grpc_address, Protocol::Http2).await?;
        let http_door = Listener::bind("server.http_listen", http_address, Protocol::Any).await?;
        let (grpc, http) = (grpc_door.address(), http_door.address());
        let tls = acceptor(&config.tls, Protocol::Http2)?;
        let services = grpc::GrpcDoor::new(&state)
            .await
            .map_err(|error| Error::internal("building the gRPC service", error))?;
        tasks.spawn(grpc_door.serve(services, tls, limits.clone(), tasks.clone(), closing.clone()));
        let tls = acceptor(&config.tls, Protocol::Any)?;
        let door = gateway::door(state);
        tasks.spawn(http_door.serve(door, tls, limits, tasks.clone(), closing.clone()));
        let grace = Duration::from_millis(config.server.shutdown_grace_ms);
        tracing::info!(%grpc, %http, encrypted = config.tls.is_given(), "listening");
        Ok(Self { grpc, http, grace, closing, tasks, audit, dispatcher, containers, _guests: guests })
    }

    /// Where gRPC is served; tells the port where the configuration said 0.
    #[must_use]
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc
    }

    /// Where HTTP is served; tells the port where the configuration said 0.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Serves until `shutdown` resolves, then closes the doors and gives what runs its grace.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) {
        shutdown.await;
        tracing::info!(grace = ?self.grace, "closing");
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "ending what did not finish in its grace");
            // Each is recorded as what it is, and told to those who follow it.
            self.dispatcher.cancel_all();
            let _ = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
        }
        self.containers.close().await;
        let audit = self.audit;
        if tokio::task::spawn_blocking(move || audit.close()).await.is_err() {
            tracing::error!("the audit log was not closed");
        }
    }
}

/// Finds out how all stored agents stand, from the start on and whenever roots and revocation lists are replaced, so that the
/// operator is told at once of those that may no longer run.
async fn review_signatures(
    dispatcher: Arc<Dispatcher>,
    mut replacements: watch::Receiver<()>,
    closing: CancellationToken,
) {
    loop {
        let reviewing = Arc::clone(&dispatcher);
        let reviewed = tokio::task::spawn_blocking(move || reviewing.review_signatures()).await;
        match reviewed {
            Ok(Ok(counts)) if counts.refused > 0 => {
                tracing::warn!(
                    refused = counts.refused,
                    "agents are stored that may not run for their signatures; `mentat list` says why"
                );
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "the signatures of stored agents were not looked at"),
            Err(_) => return,
        }
        match closing.run_until_cancelled(replacements.changed()).await {
            Some(Ok(())) => {}
            // Closing, or nobody replaces them.
            Some(Err(_)) | None => return,
        }
    }
}

/// Looks through the media store, from the start on and until the service closes.
async fn sweep_media(runtime: Arc<Runtime>, closing: CancellationToken) {
    let mut looks = tokio::time::interval(MEDIA_SWEEP);
    while closing.run_until_cancelled(looks.tick()).await.is_some() {
        closing.run_until_cancelled(runtime.sweep_media()).await;
    }
}

/// Forgets events that were kept for long enough, and gives up streams whose publishers are gone, until the service closes.
async fn forget_old_events(
    room: Arc<EventRoom>,
    published: Arc<PublishedStreams>,
    closing: CancellationToken,
) {
    let mut looks = tokio::time::interval(SWEEP_EVERY);
    while closing.run_until_cancelled(looks.tick()).await.is_some() {
        published.sweep();
        room.sweep();
    }
}

fn transport_limits(config: &ServerConfig) -> TransportLimits {
    // A timeout of nothing would end connections before they begin.
    let timeout = |milliseconds: u64| Duration::from_millis(milliseconds.max(1));
    TransportLimits {
        header_timeout: timeout(config.server.header_timeout_ms),
        idle_timeout: timeout(config.server.idle_timeout_ms),
        max_connections: usize::try_from(config.server.max_connections.max(1)).unwrap_or(usize::MAX),
        traffic: Traffic::new(config.server.max_in_flight),
    }
}

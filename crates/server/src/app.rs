//! Builds everything once, opens the doors, and owns the end: no more calls are taken, those that run may finish,
//! what does not finish in time is ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mentat_runtime::error::Error;
use mentat_runtime::{Compiler, Runtime};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authenticator;
use crate::config::ServerConfig;
use crate::dispatch::Dispatcher;
use crate::door::DoorState;
use crate::registry::Registry;
use crate::store::AgentStore;
use crate::telemetry::Metrics;
use crate::{gateway, grpc};

/// A service that listens.
#[derive(Debug)]
pub struct App {
    grpc: SocketAddr,
    http: SocketAddr,
    grace: Duration,
    /// Cancelled when no more calls are to be taken.
    closing: CancellationToken,
    /// The doors, and the work that outlives connections.
    tasks: TaskTracker,
}

impl App {
    /// Builds the service and opens its doors; when this answers, calls are taken.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a configuration that does not fit this machine, a data directory in use, an address that
    /// cannot be listened at; `INTERNAL` for a disk that refuses.
    pub async fn start(config: &ServerConfig, compiler: Compiler) -> Result<Self, Error> {
        let store = Arc::new(AgentStore::open(&config.server.data_dir)?);
        let runtime = Arc::new(Runtime::new(config.runtime_config(), compiler)?);
        let metrics = Arc::new(Metrics::new());
        let registry = Registry::new(store, Arc::clone(&runtime), config.rules());
        let remembered = usize::try_from(config.executions.remembered).unwrap_or(usize::MAX);
        let dispatcher = Dispatcher::new(runtime, registry, config.rules(), Arc::clone(&metrics), remembered);
        let tasks = TaskTracker::new();
        let state = DoorState {
            dispatcher: Arc::new(dispatcher),
            authenticator: Arc::new(Authenticator::new(&config.auth)),
            metrics,
            max_message: config.server.max_message,
            max_module: config.compile.max_module,
            idle_timeout: Duration::from_millis(config.server.idle_timeout_ms),
            tasks: tasks.clone(),
        };
        let closing = CancellationToken::new();
        let grpc_listener = listen("server.grpc_listen", config.server.grpc_listen).await?;
        let http_listener = listen("server.http_listen", config.server.http_listen).await?;
        let (grpc, http) = (address(&grpc_listener)?, address(&http_listener)?);
        open_grpc(&state, grpc_listener, &closing).await?;
        open_http(state, http_listener, &closing);
        let grace = Duration::from_millis(config.server.shutdown_grace_ms);
        tracing::info!(%grpc, %http, "listening");
        Ok(Self { grpc, http, grace, closing, tasks })
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
        }
    }
}

async fn open_grpc(
    state: &DoorState,
    listener: TcpListener,
    closing: &CancellationToken,
) -> Result<(), Error> {
    let routes =
        grpc::routes(state).await.map_err(|error| Error::internal("building the gRPC service", error))?;
    let server = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), closing.clone().cancelled_owned());
    state.tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the gRPC door failed");
        }
    });
    Ok(())
}

fn open_http(state: DoorState, listener: TcpListener, closing: &CancellationToken) {
    let tasks = state.tasks.clone();
    let server = axum::serve(listener, gateway::router(state))
        .with_graceful_shutdown(closing.clone().cancelled_owned());
    tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the HTTP door failed");
        }
    });
}

async fn listen(key: &str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| Error::InvalidRequest {
        message: format!(
            "cannot listen at {address} (`{key}`): {error}; choose another address, or port 0 for any"
        ),
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|error| Error::internal("asking for the listening address", error))
}

//! What every door is given: the core, whom to let in, and how much to read. Built once by `app`.

use std::sync::Arc;
use std::time::Duration;

use mentat_manifest::ByteCount;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authenticator;
use crate::dispatch::Dispatcher;
use crate::telemetry::Metrics;
use crate::transport::Traffic;

/// What every door is given. Each request clones it several times: one count, whatever is in it.
pub type DoorState = Arc<Door>;

/// What every door works with.
#[derive(Debug)]
pub struct Door {
    /// The core behind every door.
    pub dispatcher: Arc<Dispatcher>,
    /// Tells whose a credential is.
    pub authenticator: Arc<Authenticator>,
    /// The service's metrics.
    pub metrics: Arc<Metrics>,
    /// What is on its way, over all connections.
    pub(crate) traffic: Arc<Traffic>,
    /// Bytes of one request at most.
    pub max_message: ByteCount,
    /// Bytes of an object of the media store at most.
    pub max_object: ByteCount,
    /// Bytes of a module at most.
    pub max_module: ByteCount,
    /// The names that a browser may know this server by.
    pub names: HostNames,
    /// How long a reader of a stream is told nothing before it is told that.
    pub heartbeat: Duration,
    /// How long a reader of a WebSocket may leave what it is sent.
    pub idle_timeout: Duration,
    /// Bytes of one event at most.
    pub max_event: ByteCount,
    /// Places of WebSockets that are free.
    pub sockets: Arc<Semaphore>,
    /// All places of WebSockets.
    pub max_sockets: usize,
    /// Cancelled when no more calls are taken.
    pub closing: CancellationToken,
    /// Work that must not end with the connection that asked for it; shutdown waits for it.
    pub tasks: TaskTracker,
}

/// By which names a server may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNames {
    /// By any; its callers have to say who they are, or the operator wants it open.
    Any,
    /// By those of this machine alone. A server that lets everybody in because only this machine reaches it would be
    /// open to every web page whose name is made to mean this machine (DNS rebinding).
    Local,
}

//! What every door is given: the core, whom to let in, and how much to read. Built once by `app`.

use std::sync::Arc;
use std::time::Duration;

use mentat_manifest::ByteCount;
use tokio_util::task::TaskTracker;

use crate::auth::Authenticator;
use crate::dispatch::Dispatcher;
use crate::telemetry::Metrics;

/// What every door is given; cheap to clone.
#[derive(Clone, Debug)]
pub struct DoorState {
    /// The core behind every door.
    pub dispatcher: Arc<Dispatcher>,
    /// Tells whose a credential is.
    pub authenticator: Arc<Authenticator>,
    /// The service's metrics.
    pub metrics: Arc<Metrics>,
    /// Bytes of one request at most.
    pub max_message: ByteCount,
    /// Bytes of a module at most.
    pub max_module: ByteCount,
    /// How long a client that is sending may be silent.
    pub idle_timeout: Duration,
    /// Work that must not end with the connection that asked for it; shutdown waits for it.
    pub tasks: TaskTracker,
}

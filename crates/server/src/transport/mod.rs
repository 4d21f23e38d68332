//! Below the doors: connections, encryption, and bodies on their way. Everything that a stranger can make this process
//! hold before anyone has asked who they are is bounded here: connections, silence, bytes that are being read, replies
//! that nobody takes. Knows HTTP as far as hyper does, and nothing of what is asked.

mod bodies;
mod connection;
mod listener;
mod tls;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use bodies::{BodyError, RequestBody};
pub(crate) use listener::{Listener, Protocol};
pub(crate) use tls::{Peer, acceptor};
pub(crate) use traffic::{Charge, Traffic};

/// What connections of both doors have in common.
#[derive(Clone, Debug)]
pub(crate) struct TransportLimits {
    /// How long a new connection may take until its first request.
    pub(crate) header_timeout: Duration,
    /// How long a client may be silent in a body, leave a reply unread, or keep a connection that it does not use.
    pub(crate) idle_timeout: Duration,
    /// Connections of one door.
    pub(crate) max_connections: usize,
    /// Bytes on their way, over all connections.
    pub(crate) traffic: Arc<Traffic>,
}

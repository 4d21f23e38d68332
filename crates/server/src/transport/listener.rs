//! A door's socket: accepts connections while there is room for them.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use mentat_runtime::error::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::TransportLimits;
use super::bodies::RequestBody;
use super::connection;
use super::tls::Peer;

/// How long the door waits when the system cannot give it another connection.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/2 alone, as gRPC has it.
    Http2,
    /// HTTP/1.1 or HTTP/2, as the client likes.
    Any,
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    protocol: Protocol,
}

impl Listener {
    /// Listens; `key` names the address in the configuration.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for an address that cannot be listened at.
    pub(crate) async fn bind(key: &str, address: SocketAddr, protocol: Protocol) -> Result<Self, Error> {
        let refused = |error: std::io::Error| Error::InvalidRequest {
            message: format!(
                "cannot listen at {address} (`{key}`): {error}; choose another address, or port 0 for any"
            ),
        };
        let socket = TcpListener::bind(address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self { socket, address, protocol })
    }

    /// Where it listens; tells the port where 0 was asked for.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections, and serves each on a task of its own, until `closing`.
    pub(crate) async fn serve<S, B>(
        self,
        service: S,
        tls: Option<TlsAcceptor>,
        limits: TransportLimits,
        tasks: TaskTracker,
        closing: CancellationToken,
    ) where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let room = Arc::new(Semaphore::new(limits.max_connections));
        while let Some((stream, place)) = closing.run_until_cancelled(self.accept(&room)).await {
            let (tls, limits, service) = (tls.clone(), limits.clone(), service.clone());
            let (protocol, closing) = (self.protocol, closing.clone());
            tasks.spawn(async move {
                let _place = place;
                match tls {
                    None => connection::serve(stream, None, protocol, &limits, service, closing).await,
                    Some(tls) => {
                        let handshake = tls.accept(stream);
                        match tokio::time::timeout(limits.header_timeout, handshake).await {
                            Ok(Ok(stream)) => {
                                let peer = Peer::of(stream.get_ref().1);
                                connection::serve(stream, peer, protocol, &limits, service, closing).await;
                            }
                            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                            Err(_elapsed) => tracing::debug!("a TLS handshake took too long"),
                        }
                    }
                }
            });
        }
    }

    async fn accept(&self, room: &Arc<Semaphore>) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
        if room.available_permits() == 0 {
            tracing::warn!(address = %self.address, "as many connections as `server.max_connections`; others wait");
        }
        // The semaphore is never closed, so there is always a place.
        let place = Arc::clone(room).acquire_owned().await.ok();
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    // Answers are written whole, so there is nothing to wait for.
                    let _ = stream.set_nodelay(true);
                    return (stream, place);
                }
                // The client was faster.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::error!(address = %self.address, %error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE_AFTER_REFUSAL).await;
                }
            }
        }
    }
}

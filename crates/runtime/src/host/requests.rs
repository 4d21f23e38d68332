//! One HTTP request of a guest, from either of its ways to ask: decided on, sent over a connection of its own to the
//! address that was checked, and its response passed on within bounds. Redirects are responses like others.
//!
//! Invariant: the `Host` of a request is the host that was decided on, whatever the guest wrote.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TE};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_http::io::TokioIo;

use super::network::{Endpoint, NetworkError};
use super::outbound::Outbound;
use crate::security::policy::Permission;

/// The body of a request.
pub(crate) type Content = UnsyncBoxBody<Bytes, ContentError>;
/// The body of a response.
pub(crate) type Received = UnsyncBoxBody<Bytes, NetworkError>;

/// Bytes of a response's status line and headers at most.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Headers of a response at most.
const MAX_HEADERS: usize = 200;

/// Why the body of a request came to no good end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContentError {
    #[error("it is too large")]
    TooLarge,
    #[error("{0}")]
    Broken(String),
}

/// How long a guest wants to wait; never longer than the operator's own times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patience {
    /// Until the connection stands.
    pub(crate) connect: Option<Duration>,
    /// For the beginning of the response.
    pub(crate) first_byte: Option<Duration>,
    /// Between two parts of it.
    pub(crate) between_bytes: Option<Duration>,
}

/// A response's body as it comes from the connection.
struct Arriving {
    incoming: Incoming,
    host: String,
    patience: Duration,
    /// Runs while the guest waits.
    deadline: Option<Pin<Box<Sleep>>>,
    limit: u64,
    left: u64,
    /// Keeps the connection going, and ends with the body.
    _connection: AbortOnDropJoinHandle<()>,
    /// Takes what the guest writes to a body that is not sent.
    _unsent: Option<AbortOnDropJoinHandle<()>>,
    _place: OwnedSemaphorePermit,
}

/// Sends a request that was permitted, with the secrets that may go to its host.
///
/// Its place is taken before: what is held in memory is bounded by it, and a guest that waits is seen to wait for a host.
pub(crate) async fn send(
    outbound: &Arc<Outbound>,
    place: OwnedSemaphorePermit,
    permission: &Permission,
    request: Request<Content>,
    patience: Patience,
) -> Result<Response<Received>, NetworkError> {
    let endpoint = Endpoint::of(permission)?;
    if request.method() == Method::CONNECT {
        return Err(NetworkError::Malformed("the method CONNECT is for proxies, and there is none".into()));
    }
    match outbound.seal(permission.capability(), request.headers())? {
        Some(mut seal) => {
            let placing =
                tokio::time::timeout(outbound.network.config().response_timeout, seal.place(request));
            let request = placing.await.map_err(|_| NetworkError::Timeout {
                what: "waiting for the request's body",
                host: endpoint.host(),
            })??;
            seal.mask(deliver(outbound, place, &endpoint, request, patience).await?)
        }
        None => deliver(outbound, place, &endpoint, request, patience).await,
    }
}

/// Takes a request to an endpoint, and its response back.
pub(crate) async fn deliver(
    outbound: &Outbound,
    place: OwnedSemaphorePermit,
    endpoint: &Endpoint,
    request: Request<Content>,
    patience: Patience,
) -> Result<Response<Received>, NetworkError> {
    let network = &outbound.network;
    let config = network.config();
    let at_most = |wish: Option<Duration>, limit: Duration| wish.map_or(limit, |wish| wish.min(limit));
    let (request, unsent) = without_unsent(request);
    let request = address(request, endpoint, config.request_bytes.0)?;

    let connect_by = Instant::now() + at_most(patience.connect, config.connect_timeout);
    let left = || connect_by.saturating_duration_since(Instant::now());
    let stream = network.connect(endpoint, left()).await?;
    let (mut sender, connection) = if endpoint.is_encrypted() {
        shake_hands(network.encrypt(endpoint, stream, left()).await?).await?
    } else {
        shake_hands(stream).await?
    };
    let first_byte = at_most(patience.first_byte, config.response_timeout);
    let too_slow = |_| NetworkError::Timeout { what: "waiting for the response", host: endpoint.host() };
    let response = tokio::time::timeout(first_byte, sender.send_request(request))
        .await
        .map_err(too_slow)?
        .map_err(|error| broken(error, config.request_bytes.0))?;
    let limit = config.response_bytes.0;
    Ok(response.map(|incoming| {
        let arriving = Arriving {
            incoming,
            host: endpoint.host(),
            patience: at_most(patience.between_bytes, config.response_timeout),
            deadline: None,
            limit,
            left: limit,
            _connection: connection,
            _unsent: unsent,
            _place: place,
        };
        arriving.boxed_unsync()
    }))
}

type Sender = http1::SendRequest<Content>;

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(Sender, AbortOnDropJoinHandle<()>), NetworkError> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = wasmtime_wasi::runtime::spawn(async move {
        // What broke it is told by the request or by the body that waits for it.
        let _ = connection.await;
    });
    Ok((sender, connection))
}

/// With GET and HEAD, no body is sent whose length is not known. The connection would drop such a body at once, and a
/// guest that is just finishing it, as libraries do where it is empty, would take that for a failure.
fn without_unsent(request: Request<Content>) -> (Request<Content>, Option<AbortOnDropJoinHandle<()>>) {
    let has_none = matches!(*request.method(), Method::GET | Method::HEAD);
    if !has_none || request.headers().contains_key(CONTENT_LENGTH) || request.body().is_end_stream() {
        return (request, None);
    }
    let (head, mut body) = request.into_parts();
    let draining =
        wasmtime_wasi::runtime::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
    let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
    (Request::from_parts(head, empty), Some(draining))
}

/// Makes a request one to this endpoint: its path alone in the first line, its host in the header, its body bounded.
fn address(
    request: Request<Content>,
    endpoint: &Endpoint,
    limit: u64,
) -> Result<Request<Content>, NetworkError> {
    let (mut head, body) = request.into_parts();
    let wrong = |error: &dyn std::fmt::Display| NetworkError::Malformed(error.to_string());
    let host = HeaderValue::try_from(endpoint.authority()).map_err(|error| wrong(&error))?;
    head.headers.insert(HOST, host);
    // What a connection can bear is for those who hold it: compressed transfers could not be masked.
    head.headers.remove(TE);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::builder().path_and_query(path).build().map_err(|error| wrong(&error))?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Request::from_parts(head, Limited::new(body, limit).map_err(ContentError::from).boxed_unsync()))
}

/// Tells a body that is too large from a connection that broke.
fn broken(error: hyper::Error, limit: u64) -> NetworkError {
    let cause = std::error::Error::source(&error);
    if cause.and_then(|cause| cause.downcast_ref()) == Some(&ContentError::TooLarge) {
        return NetworkError::TooLarge { what: "request", limit };
    }
    NetworkError::Http(error)
}

impl From<Box<dyn std::error::Error + Send + Sync>> for ContentError {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(error) if error.is::<LengthLimitError>() => Self::TooLarge,
            Err(error) => Self::Broken(error.to_string()),
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = NetworkError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NetworkError>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => {
                self.deadline = None;
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = self.left.checked_sub(length) else {
                    let limit = self.limit;
                    return Poll::Ready(Some(Err(NetworkError::TooLarge { what: "response", limit })));
                };
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                let patience = self.patience;
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                ready!(deadline.as_mut().poll(context));
                let host = self.host.clone();
                Poll::Ready(Some(Err(NetworkError::Timeout {
                    what: "waiting for more of the response",
                    host,
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

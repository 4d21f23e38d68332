//! HTTP to the service that a bucket is kept by: over the connections and the encryption of `network`, a few of which wait
//! for the next request. Where it leads is the operator's word, and is not checked as an agent's would be.
//!
//! Invariant: requests go to the one endpoint that the operator named, and carry its credentials nowhere else.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_http::io::TokioIo;

use crate::host::network::{Endpoint, Network, NetworkError};

/// Connections to the service at one time; further requests wait, within their time.
const MAX_CONNECTIONS: usize = 128;
/// Connections that wait for the next request.
const MAX_IDLE: usize = 16;

/// The way to one service.
#[derive(Clone, Debug)]
pub(super) struct Service(Arc<Shared>);

struct Shared {
    network: Arc<Network>,
    endpoint: Endpoint,
    timeout: Duration,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

/// A connection that nothing is asked on.
struct Connection {
    sender: http1::SendRequest<UnsyncBoxBody<Bytes, HttpError>>,
    /// Keeps it going.
    _driver: AbortOnDropJoinHandle<()>,
    /// Whether something was asked on it before: it may be gone by now, which is nobody's fault.
    is_used: bool,
}

/// The body of a response, whose connection waits for the next request when it has ended.
struct Arriving {
    incoming: Incoming,
    connection: Option<Connection>,
    service: Service,
    _place: OwnedSemaphorePermit,
}

impl Service {
    pub(super) fn new(network: Arc<Network>, endpoint: Endpoint, timeout: Duration) -> Self {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self(Arc::new(Shared { network, endpoint, timeout, places, idle: Mutex::default() }))
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Shared { endpoint, places, .. } = &*self.0;
        let place = Arc::clone(places).acquire_owned().await;
        let place = place.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let wrong = |error| HttpError::new(HttpErrorKind::Unknown, error);
        let host = endpoint.host();
        if !request.uri().host().is_some_and(|asked| asked.eq_ignore_ascii_case(&host)) {
            let message = "the request is for another host than the media store's";
            return Err(wrong(NetworkError::Malformed(message.into())));
        }
        let (mut head, body) = request.into_parts();
        let authority = HeaderValue::try_from(endpoint.authority());
        head.headers.insert(HOST, authority.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let path = Uri::builder().path_and_query(path).build();
        head.uri = path.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let request = http::Request::from_parts(head, body.boxed_unsync());
        let mut connection = self.connection().await?;
        let sent = connection.sender.send_request(request).await;
        let response = sent.map_err(|error| broken(error, connection.is_used))?;
        connection.is_used = true;
        let connection = Some(connection);
        Ok(response.map(|incoming| {
            let mut body = Arriving { incoming, connection, service: self.clone(), _place: place };
            if body.incoming.is_end_stream() {
                body.leave();
            }
            HttpResponseBody::new(body)
        }))
    }

    /// One that waits, or a new one.
    async fn connection(&self) -> Result<Connection, HttpError> {
        loop {
            let Some(mut waiting) = self.0.idle.lock().pop() else { break };
            if waiting.sender.ready().await.is_ok() {
                return Ok(waiting);
            }
        }
        let Shared { network, endpoint, timeout, .. } = &*self.0;
        let failed = |error| HttpError::new(HttpErrorKind::Connect, error);
        let stream = network.connect(endpoint, *timeout).await.map_err(failed)?;
        if endpoint.is_encrypted() {
            shake_hands(network.encrypt(endpoint, stream, *timeout).await.map_err(failed)?).await
        } else {
            shake_hands(stream).await
        }
    }
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Connection, HttpError> {
    let shaken = http1::Builder::new().handshake(TokioIo::new(stream)).await;
    let (sender, driving) = shaken.map_err(|error| HttpError::new(HttpErrorKind::Connect, error))?;
    let driver = wasmtime_wasi::runtime::spawn(async move {
        // What broke it is told by the request or by the body that waits for it.
        let _ = driving.await;
    });
    Ok(Connection { sender, _driver: driver, is_used: false })
}

/// A connection that was gone before anything was said on it is worth another try whatever was asked.
fn broken(error: hyper::Error, was_used: bool) -> HttpError {
    let is_untold = error.is_closed() || error.is_canceled() || (was_used && error.is_incomplete_message());
    HttpError::new(if is_untold { HttpErrorKind::Request } else { HttpErrorKind::Interrupted }, error)
}

impl HttpConnector for Service {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Service {
    fn call<'life, 'call>(
        &'life self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'life: 'call,
        Self: 'call,
    {
        Box::pin(self.ask(request))
    }
}

impl Arriving {
    /// Leaves the connection to the next request.
    fn leave(&mut self) {
        if let Some(connection) = self.connection.take() {
            let mut idle = self.service.0.idle.lock();
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => {
                self.connection = None;
                Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Interrupted, error))))
            }
            None => {
                self.leave();
                Poll::Ready(None)
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

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Service").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

//! One connection, from its handshake to its end: requests go to the door's service, and a connection that is of no use
//! is closed.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::TransportLimits;
use super::bodies::{GiveUp, ReplyBody, RequestBody};
use super::listener::Protocol;
use super::tls::Peer;
use super::traffic::Charge;

/// Requests of one HTTP/2 connection at the same time; more wait at the client.
const MAX_CONCURRENT_STREAMS: u32 = 250;
/// How often a connection is asked for a sign of life, when it has requests that wait.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// Looks at a connection within the shortest time that ends it.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// What is known of one connection while it lives.
struct Activity {
    requests: AtomicUsize,
    served: AtomicBool,
    since: Mutex<Instant>,
    /// HTTP/1 cannot give up one reply without the connection.
    http1: AtomicBool,
    /// Those that are being sent.
    replies: Mutex<Slab<Arc<Mutex<dyn GiveUp>>>>,
}

/// A request between its arrival and the end of its reply.
pub(super) struct InFlight {
    activity: Arc<Activity>,
    charge: Arc<Charge>,
    /// Where its reply is among those that are being sent.
    reply: Option<usize>,
}

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It works, or may yet.
    Useful,
    /// Nothing has happened on it for its time.
    Idle,
    /// Its reply is not being read, and it can have no other.
    Stuck,
}

impl Activity {
    fn new() -> Self {
        Self {
            requests: AtomicUsize::new(0),
            served: AtomicBool::new(false),
            since: Mutex::new(Instant::now()),
            http1: AtomicBool::new(false),
            replies: Mutex::default(),
        }
    }

    fn begin(self: &Arc<Self>, version: Version, charge: Charge) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        self.http1.store(version < Version::HTTP_2, Ordering::Relaxed);
        InFlight { activity: Arc::clone(self), charge: Arc::new(charge), reply: None }
    }

    fn judge(&self, limits: &TransportLimits) -> Verdict {
        let mut given_up = false;
        for (_, reply) in self.replies.lock().iter() {
            given_up |= reply.lock().give_up_after(limits.idle_timeout);
        }
        if given_up && self.http1.load(Ordering::Relaxed) {
            return Verdict::Stuck;
        }
        // What is looked at here needs no timer of hyper's, which would be set and taken back for each request.
        let is_waiting_for_a_header =
            !self.served.load(Ordering::Relaxed) || self.http1.load(Ordering::Relaxed);
        let patience = if is_waiting_for_a_header { limits.header_timeout } else { limits.idle_timeout };
        let idle = self.requests.load(Ordering::Relaxed) == 0 && self.since.lock().elapsed() > patience;
        if idle { Verdict::Idle } else { Verdict::Useful }
    }
}

impl InFlight {
    pub(super) fn charge(&self) -> &Arc<Charge> {
        &self.charge
    }

    /// Has a reply given up when nobody takes it.
    pub(super) fn watch<R: GiveUp + 'static>(&mut self, reply: &Arc<Mutex<R>>) {
        let reply: Arc<Mutex<dyn GiveUp>> = Arc::clone(reply) as _;
        self.reply = Some(self.activity.replies.lock().insert(reply));
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(reply) = self.reply {
            self.activity.replies.lock().try_remove(reply);
        }
        *self.activity.since.lock() = Instant::now();
        self.activity.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one connection until it ends, is of no use, or the door closes and its requests are answered.
pub(super) async fn serve<S, B>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<Peer>,
    protocol: Protocol,
    limits: &TransportLimits,
    service: S,
    closing: CancellationToken,
) where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let activity = Arc::new(Activity::new());
    let requests = {
        let (activity, limits) = (Arc::clone(&activity), limits.clone());
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let in_flight = activity.begin(request.version(), Charge::new(&limits.traffic));
            let charge = Arc::clone(in_flight.charge());
            let mut request =
                request.map(|body| RequestBody::new(body, Arc::clone(&charge), limits.idle_timeout));
            request.extensions_mut().insert(charge);
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            let answer = service.clone().call(request);
            async move { Ok::<_, Infallible>(answer.await?.map(|body| ReplyBody::new(body, in_flight))) }
        })
    };
    let builder = builder(protocol, limits);
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), requests));
    let mut looks = tokio::time::interval(limits.header_timeout.min(limits.idle_timeout) / LOOKS_PER_TIMEOUT);
    let mut said_goodbye = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection ended");
                }
                return;
            }
            _ = looks.tick() => match activity.judge(limits) {
                Verdict::Useful => {}
                Verdict::Idle if !said_goodbye => {
                    connection.as_mut().graceful_shutdown();
                    said_goodbye = true;
                }
                Verdict::Idle | Verdict::Stuck => return,
            },
            () = closing.cancelled(), if !said_goodbye => {
                connection.as_mut().graceful_shutdown();
                said_goodbye = true;
            }
        }
    }
}

fn builder(protocol: Protocol, limits: &TransportLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    if protocol == Protocol::Http2 {
        builder = builder.http2_only();
    }
    builder.http1().header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(limits.header_timeout);
    builder
}

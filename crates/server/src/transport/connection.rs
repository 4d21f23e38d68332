//! One connection, from its handshake to its end: requests go to the door's service, and a connection that is of no use
//! is closed.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream, SelectAll};
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::MissedTickBehavior;
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
/// In place of a look, where nothing is left untaken.
const TAKEN: u64 = u64::MAX;

/// What is known of one connection while it lives. Its time passes by the looks that are taken at it, so that no request
/// asks a clock.
struct Activity {
    requests: AtomicUsize,
    served: AtomicBool,
    looks: AtomicU64,
    /// The last look before its last request was answered.
    since: AtomicU64,
    /// HTTP/1 has one request at a time, and cannot give up its reply without the connection.
    http1: AtomicBool,
    /// By HTTP/1, the last look before there was something for the client that the transport has not come for; [`TAKEN`]
    /// where it has come for everything.
    untaken: AtomicU64,
    /// By HTTP/2, those that are being sent.
    replies: Mutex<Slab<Arc<Mutex<dyn GiveUp>>>>,
}

/// A request between its arrival and the end of its reply.
pub(super) struct InFlight {
    activity: Arc<Activity>,
    charge: Arc<Charge>,
    /// Where its reply is among those that are being sent.
    reply: Option<usize>,
}

/// Why a connection is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// It is time to look at it.
    Look,
    /// Its door closes.
    Closing,
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
            looks: AtomicU64::new(0),
            since: AtomicU64::new(0),
            http1: AtomicBool::new(false),
            untaken: AtomicU64::new(TAKEN),
            replies: Mutex::default(),
        }
    }

    fn begin(self: &Arc<Self>, version: Version, charge: Charge) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        self.http1.store(version < Version::HTTP_2, Ordering::Relaxed);
        InFlight { activity: Arc::clone(self), charge: Arc::new(charge), reply: None }
    }

    /// Takes a look, as is done each [`look_every`].
    fn judge(&self, limits: &TransportLimits) -> Verdict {
        let look = self.looks.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let too_long_ago = look.saturating_sub(looks_in(limits.idle_timeout, limits));
        if self.untaken.load(Ordering::Relaxed) < too_long_ago {
            return Verdict::Stuck;
        }
        for (_, reply) in self.replies.lock().iter() {
            reply.lock().give_up_before(too_long_ago);
        }
        // What is looked at here needs no timer of hyper's, which would be set and taken back for each request.
        let is_waiting_for_a_header =
            !self.served.load(Ordering::Relaxed) || self.http1.load(Ordering::Relaxed);
        let patience = if is_waiting_for_a_header { limits.header_timeout } else { limits.idle_timeout };
        // In this order: who counts no more has said before since when.
        let is_quiet = self.requests.load(Ordering::Acquire) == 0;
        let quiet = look.saturating_sub(self.since.load(Ordering::Relaxed));
        let idle = is_quiet && quiet > looks_in(patience, limits);
        if idle { Verdict::Idle } else { Verdict::Useful }
    }
}

/// How often a connection is looked at.
fn look_every(limits: &TransportLimits) -> Duration {
    limits.header_timeout.min(limits.idle_timeout) / LOOKS_PER_TIMEOUT
}

/// The looks after which a time has passed for certain.
fn looks_in(time: Duration, limits: &TransportLimits) -> u64 {
    let looks = time.as_micros().div_ceil(look_every(limits).as_micros().max(1));
    u64::try_from(looks).unwrap_or(u64::MAX)
}

impl InFlight {
    pub(super) fn charge(&self) -> &Arc<Charge> {
        &self.charge
    }

    /// The last look that was taken at its connection.
    pub(super) fn last_look(&self) -> u64 {
        self.activity.looks.load(Ordering::Relaxed)
    }

    /// Whether its connection has no other request meanwhile.
    pub(super) fn is_alone(&self) -> bool {
        self.activity.http1.load(Ordering::Relaxed)
    }

    /// There is something for the client that the transport has not come for, or nothing: of a request that is alone.
    pub(super) fn set_untaken(&self, is_untaken: bool) {
        let since = if is_untaken { self.last_look() } else { TAKEN };
        self.activity.untaken.store(since, Ordering::Relaxed);
    }

    /// Has a reply given up when nobody takes it: of a request that is not alone.
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
        if self.is_alone() {
            self.set_untaken(false);
        }
        self.activity.since.store(self.last_look(), Ordering::Relaxed);
        self.activity.requests.fetch_sub(1, Ordering::Release);
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
            let mut request = request.map(|body| RequestBody::new(body, charge, limits.idle_timeout));
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            let answer = service.clone().call(request);
            async move { Ok::<_, Infallible>(answer.await?.map(|body| ReplyBody::new(body, in_flight))) }
        })
    };
    let builder = builder(protocol, limits);
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), requests));
    let mut signs = signs(look_every(limits), closing);
    let mut said_goodbye = false;
    loop {
        let sign = tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection ended");
                }
                return;
            }
            Some(sign) = signs.next() => sign,
        };
        let verdict = match sign {
            Sign::Look => activity.judge(limits),
            Sign::Closing => Verdict::Idle,
        };
        match verdict {
            Verdict::Useful => {}
            Verdict::Idle if !said_goodbye => {
                connection.as_mut().graceful_shutdown();
                said_goodbye = true;
            }
            // It was told before; its requests are answered yet.
            Verdict::Idle if sign == Sign::Closing => {}
            Verdict::Idle | Verdict::Stuck => return,
        }
    }
}

/// When a connection is to be looked at, and when its door closes. A connection is polled for each request; these are only
/// when there is something.
fn signs(every: Duration, closing: CancellationToken) -> SelectAll<BoxStream<'static, Sign>> {
    let mut looks = tokio::time::interval(every);
    // Those that were missed did not see anything.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looks = stream::unfold(looks, |mut looks| async move {
        looks.tick().await;
        Some((Sign::Look, looks))
    });
    let closing = stream::once(async move {
        closing.cancelled().await;
        Sign::Closing
    });
    stream::select_all([looks.boxed(), closing.boxed()])
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

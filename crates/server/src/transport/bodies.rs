//! Bodies on their way. A request's is counted as it comes and not waited for when it stops coming; a reply's is handed
//! over in slices, so that it is known when nobody takes it, and given up then.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mentat_runtime::error::Error;
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::connection::InFlight;
use super::traffic::Charge;

/// Bytes of a reply that are handed over at once.
const REPLY_SLICE_BYTES: usize = 64 << 10;

/// Why a body does not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// There are too many bytes on their way already.
    #[error("this server is reading and sending as much as it can hold; try again later")]
    Busy,
    /// The client has stopped sending.
    #[error("no more of the body came for {} ms", .0.as_millis())]
    Silent(Duration),
    /// The connection is gone, or broke the protocol.
    #[error("the connection ended in the middle of the body")]
    Gone(#[source] hyper::Error),
}

impl BodyError {
    /// The reason among the causes of what a framework makes of it.
    pub(crate) fn among<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }

    /// What the client is told.
    pub(crate) fn to_error(&self) -> Error {
        match self {
            Self::Busy => {
                Error::Overloaded { message: self.to_string(), retry_after: Duration::from_secs(1) }
            }
            Self::Silent(_) => Error::InvalidRequest { message: self.to_string() },
            Self::Gone(_) => Error::Cancelled,
        }
    }
}

/// A request's body.
pub(crate) struct RequestBody {
    inner: Incoming,
    charge: Arc<Charge>,
    idle_timeout: Duration,
    silence: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, charge: Arc<Charge>, idle_timeout: Duration) -> Self {
        Self { inner, charge, idle_timeout, silence: None }
    }

    /// Where the request and its reply are counted among what is on its way.
    pub(crate) fn charge(&self) -> &Arc<Charge> {
        &self.charge
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let idle_timeout = self.idle_timeout;
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.silence = None;
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let fits = self.charge.try_add(bytes);
                Poll::Ready(Some(if fits { Ok(frame) } else { Err(BodyError::Busy) }))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Gone(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_timeout)));
                match silence.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::Silent(idle_timeout)))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A reply's body. The transport asks for the next slice only when it could pass the last one on.
pub(crate) struct ReplyBody<B> {
    held: Holder<B>,
    /// The request's place among those of its connection, until the reply is sent.
    request: InFlight,
}

/// Who has a reply in hand.
enum Holder<B> {
    /// The transport alone: its connection goes if it is not taken.
    Own(Held<B>),
    /// Whoever looks at its connection as well: it alone goes if it is not taken.
    Watched(Arc<Mutex<Watched<B>>>),
}

/// The part of a reply that is not yet sent.
#[derive(Debug)]
struct Held<B> {
    inner: B,
    rest: Bytes,
}

/// A reply beside others of its connection.
#[derive(Debug)]
struct Watched<B> {
    /// Gone once the reply was given up.
    held: Option<Held<B>>,
    /// The last look at the connection before there was something for the client that the transport has not come for.
    untaken: Option<u64>,
    charge: Arc<Charge>,
}

/// A reply that may be given up.
pub(super) trait GiveUp: Send {
    /// Gives the reply up if the client has left it since before that look.
    fn give_up_before(&mut self, look: u64);
}

impl<B: Send> GiveUp for Watched<B> {
    fn give_up_before(&mut self, look: u64) {
        if self.held.is_some() && self.untaken.is_some_and(|since| since < look) {
            self.held = None;
            self.charge.remove_all();
        }
    }
}

/// What a reply's body says to the transport.
type Next = Poll<Option<Result<Frame<Bytes>, Box<dyn StdError + Send + Sync>>>>;

impl<B> Held<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    /// The next slice.
    fn poll_slice(&mut self, context: &mut Context<'_>) -> Next {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.rest = piece,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            }
        }
        let slice = self.rest.split_to(self.rest.len().min(REPLY_SLICE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }
}

impl<B: Body> Held<B> {
    fn is_end(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size(&self) -> SizeHint {
        let (unsent, inner) = (self.rest.len() as u64, self.inner.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(unsent));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(unsent));
        }
        hint
    }
}

impl<B: Body + Send + 'static> ReplyBody<B> {
    pub(super) fn new(inner: B, mut request: InFlight) -> Self {
        let charge = request.charge();
        // What a door does not say the length of, it has counted by itself.
        charge.add(usize::try_from(inner.size_hint().lower()).unwrap_or(usize::MAX));
        let held = Held { inner, rest: Bytes::new() };
        if request.is_alone() {
            request.set_untaken(true);
            return Self { held: Holder::Own(held), request };
        }
        let (charge, untaken) = (Arc::clone(charge), Some(request.last_look()));
        let watched = Arc::new(Mutex::new(Watched { held: Some(held), untaken, charge }));
        request.watch(&watched);
        Self { held: Holder::Watched(watched), request }
    }
}

impl<B> Body for ReplyBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Next {
        let Self { held, request } = self.get_mut();
        match held {
            Holder::Own(held) => {
                let next = held.poll_slice(context);
                // While there is nothing yet, it is for us to say something.
                request.set_untaken(next.is_ready());
                next
            }
            Holder::Watched(watched) => {
                let mut watched = watched.lock();
                let Some(held) = &mut watched.held else {
                    return Poll::Ready(Some(Err("the client did not take the reply".into())));
                };
                let next = held.poll_slice(context);
                watched.untaken = next.is_ready().then(|| request.last_look());
                next
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.held {
            Holder::Own(held) => held.is_end(),
            Holder::Watched(watched) => watched.lock().held.as_ref().is_some_and(Held::is_end),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.held {
            Holder::Own(held) => held.size(),
            Holder::Watched(watched) => watched.lock().held.as_ref().map(Held::size).unwrap_or_default(),
        }
    }
}

//! HTTP by a grant: a whole request in one call, or an exchange in parts, whose request is written and whose response is
//! read piece by piece. The arguments are JSON; what comes back is JSON, and bytes as they are where a response is read.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER};
use http::{Method, Request, Response, Uri};
use http_body::Body;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Empty, Full, Limited};
use mentat_manifest::escape_untrusted;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS;

use super::abi::AbiError;
use super::capabilities::{CallError, OTHER_GRANT, arguments};
use super::context::HostContext;
use super::files::content;
use super::network::NetworkError;
use super::outbound::{Outbound, target};
use super::requests::{self, Content, ContentError, Patience, Received};
use crate::security::policy::Permission;

/// Bytes of a response that comes back in one call.
const MAX_WHOLE_BYTES: usize = 16 << 20;
/// Bytes of a response that are read in one call.
const MAX_READ_BYTES: usize = 1 << 20;
/// Bytes that are read where the guest does not say how many.
const READ_BYTES: usize = 64 << 10;
/// Bytes of a URL at most; servers take less.
const MAX_URL_BYTES: usize = 8 << 10;
/// Headers of a request at most, and bytes of one.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Bytes of one of those pieces that are handed to the connection at once.
const WRITE_BYTES: usize = 64 << 10;
/// Pieces of a request's body that wait for the connection.
const WAITING_PIECES: usize = 2;

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Arguments")]
enum Operation {
    Request(Asked),
    Open(Asked),
    Write { exchange: u32, data: Option<String>, data_base64: Option<String> },
    Response { exchange: u32 },
    Read { exchange: u32, length: Option<usize> },
    Close { exchange: u32 },
}

/// A request, as a guest asks for it.
#[derive(Debug)]
struct Asked {
    method: Option<String>,
    url: String,
    headers: Vec<(String, String)>,
    /// Milliseconds for the connection, and for each wait on the host; never more than the operator allows.
    timeout_ms: Option<u64>,
    body: Option<String>,
    body_base64: Option<String>,
}

/// The arguments as they are written. Flat, so that none is kept before it is known to be one: a tagged enum would first
/// collect all that is there, at many times the size of its text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    op: Op,
    method: Option<String>,
    url: Option<String>,
    headers: Option<Headers>,
    timeout_ms: Option<u64>,
    body: Option<String>,
    body_base64: Option<String>,
    exchange: Option<u32>,
    data: Option<String>,
    data_base64: Option<String>,
    length: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Request,
    Open,
    Write,
    Response,
    Read,
    Close,
}

/// Pairs of names and values, no more of them than a request may have.
#[derive(Debug)]
struct Headers(Vec<(String, String)>);

/// The exchanges of an execution that are not over.
#[derive(Default)]
pub(crate) struct Exchanges {
    last: u32,
    open: HashMap<u32, Exchange>,
}

/// One request and its response.
struct Exchange {
    /// The grant that it is made by, and ends with.
    handle: i32,
    state: State,
}

enum State {
    /// The request is being written, where it is of a method with a body, and sent as it is. Dropped in this order: one that is given up must not look whole.
    Writing(Sending, Option<Sender<Bytes, ContentError>>),
    /// The response is being read, and some of it may be at hand.
    Reading(Received, Bytes),
}

type Sending = AbortOnDropJoinHandle<Result<Response<Received>, NetworkError>>;

impl TryFrom<Arguments> for Operation {
    type Error = String;

    fn try_from(arguments: Arguments) -> Result<Self, String> {
        let Arguments { op, method, url, headers, timeout_ms, body, body_base64, .. } = arguments;
        let Arguments { exchange, data, data_base64, length, .. } = arguments;
        let asks = matches!(op, Op::Request | Op::Open);
        let writes = op == Op::Write;
        for (key, given, taken) in [
            ("method", method.is_some(), asks),
            ("url", url.is_some(), asks),
            ("headers", headers.is_some(), asks),
            ("timeout_ms", timeout_ms.is_some(), asks),
            ("body", body.is_some(), op == Op::Request),
            ("body_base64", body_base64.is_some(), op == Op::Request),
            ("exchange", exchange.is_some(), !asks),
            ("data", data.is_some(), writes),
            ("data_base64", data_base64.is_some(), writes),
            ("length", length.is_some(), op == Op::Read),
        ] {
            if given && !taken {
                return Err(format!("the operation has no `{key}`"));
            }
        }
        if asks {
            let url = url.ok_or("`url` is missing")?;
            let headers = headers.map(|headers| headers.0).unwrap_or_default();
            let asked = Asked { method, url, headers, timeout_ms, body, body_base64 };
            return Ok(if op == Op::Open { Self::Open(asked) } else { Self::Request(asked) });
        }
        let exchange = exchange.ok_or("`exchange` is missing; `open` gives its number")?;
        Ok(match op {
            Op::Write => Self::Write { exchange, data, data_base64 },
            Op::Response => Self::Response { exchange },
            Op::Read => Self::Read { exchange, length },
            Op::Close | Op::Request | Op::Open => Self::Close { exchange },
        })
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Headers;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("pairs of names and values, such as `[[\"accept\", \"text/html\"]]`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some(pair) = pairs.next_element()? {
                    if headers.len() == MAX_HEADERS {
                        return Err(Error::custom(format!(
                            "more headers are given than {MAX_HEADERS}, which is the limit"
                        )));
                    }
                    headers.push(pair);
                }
                Ok(Headers(headers))
            }
        }

        deserializer.deserialize_seq(Pairs)
    }
}

impl Exchanges {
    /// Ends those of a grant that is given back.
    pub(crate) fn release(&mut self, handle: i32) {
        self.open.retain(|_, exchange| exchange.handle != handle);
    }

    /// Whether one more may be opened: each holds a connection, or has failed and is not closed.
    fn check_room(&self, limit: u32) -> Result<(), CallError> {
        if self.open.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let message = format!(
            "{limit} exchanges are open, which is the limit (`network.connections`); close one first"
        );
        Err(CallError::new(AbiError::Exhausted, message))
    }

    /// Puts one back that an operation was wrong for.
    fn put_back(&mut self, number: u32, exchange: Exchange, message: &str) -> CallError {
        self.open.insert(number, exchange);
        CallError::malformed(message)
    }

    fn take(&mut self, handle: i32, number: u32) -> Result<Exchange, CallError> {
        match self.open.remove(&number) {
            Some(exchange) if exchange.handle == handle => Ok(exchange),
            other => {
                // Another grant's stays open.
                if let Some(exchange) = other {
                    self.open.insert(number, exchange);
                }
                let message = format!("there is no exchange {number} of this grant; `open` gives its number");
                Err(CallError::new(AbiError::BadHandle, message))
            }
        }
    }
}

/// Does one operation.
pub(crate) async fn invoke(
    context: &mut HostContext,
    handle: i32,
    permission: &Permission,
    bytes: &[u8],
) -> Result<Bytes, CallError> {
    match arguments::<Operation>(bytes)? {
        Operation::Request(asked) => {
            let (outbound, permission) = decide(context, permission, &asked.url)?;
            let request = asked.request(asked.content()?)?;
            let place = outbound.open()?;
            gather(requests::send(&outbound, place, &permission, request, asked.patience()).await?).await
        }
        Operation::Open(asked) => {
            let (outbound, permission) = decide(context, permission, &asked.url)?;
            context.exchanges.check_room(outbound.network.config().connections)?;
            let (sender, body) = if asked.has_body() {
                let (sender, body) = Channel::<Bytes, ContentError>::new(WAITING_PIECES);
                (Some(sender), body.boxed_unsync())
            } else {
                (None, asked.content()?)
            };
            let request = asked.request(body)?;
            let patience = asked.patience();
            let place = outbound.open()?;
            let sending = wasmtime_wasi::runtime::spawn(async move {
                requests::send(&outbound, place, &permission, request, patience).await
            });
            let exchanges = &mut context.exchanges;
            exchanges.last = exchanges.last.wrapping_add(1);
            let number = exchanges.last;
            exchanges.open.insert(number, Exchange { handle, state: State::Writing(sending, sender) });
            Ok(json!({ "exchange": number }).to_string().into())
        }
        Operation::Write { exchange: number, data, data_base64 } => {
            let piece = content(data.as_deref(), data_base64.as_deref())?;
            write(context, handle, number, piece.into()).await
        }
        Operation::Response { exchange: number } => {
            let exchange = context.exchanges.take(handle, number)?;
            let State::Writing(sending, sender) = exchange.state else {
                let message = "the response has been asked for; `read` reads on";
                return Err(context.exchanges.put_back(number, exchange, message));
            };
            // The request is whole.
            drop(sender);
            let (head, state) = answered(sending).await?;
            context.exchanges.open.insert(number, Exchange { handle, state });
            Ok(head.to_string().into())
        }
        Operation::Read { exchange: number, length } => {
            let exchange = context.exchanges.take(handle, number)?;
            let State::Reading(mut body, mut at_hand) = exchange.state else {
                return Err(context.exchanges.put_back(number, exchange, "ask for the `response` first"));
            };
            let length = length.unwrap_or(READ_BYTES).min(MAX_READ_BYTES);
            while at_hand.is_empty() && length > 0 {
                match body.frame().await {
                    None => break,
                    Some(frame) => at_hand = frame?.into_data().unwrap_or_default(),
                }
            }
            let piece = at_hand.split_to(length.min(at_hand.len()));
            let state = State::Reading(body, at_hand);
            context.exchanges.open.insert(number, Exchange { handle, state });
            Ok(piece)
        }
        Operation::Close { exchange } => {
            context.exchanges.take(handle, exchange)?;
            Ok("{}".into())
        }
    }
}

/// Writes a piece of a request, as fast as the host takes it.
async fn write(
    context: &mut HostContext,
    handle: i32,
    number: u32,
    mut piece: Bytes,
) -> Result<Bytes, CallError> {
    let length = piece.len();
    let patience = context.outbound().network.config().response_timeout;
    let exchange = context.exchanges.take(handle, number)?;
    let (sending, mut sender) = match exchange.state {
        State::Writing(sending, Some(sender)) => (sending, sender),
        State::Writing(_, None) => {
            let message = "a request by GET or HEAD has no body in pieces; `request` sends one whole";
            return Err(context.exchanges.put_back(number, exchange, message));
        }
        State::Reading(..) => {
            let message = "the response has begun; the request cannot be written on";
            return Err(context.exchanges.put_back(number, exchange, message));
        }
    };
    while !piece.is_empty() {
        let part = piece.split_to(piece.len().min(WRITE_BYTES));
        match tokio::time::timeout(patience, sender.send_data(part)).await {
            Ok(Ok(())) => {}
            // The other end is gone: the request has failed, or the host has answered without reading it.
            Ok(Err(_)) => {
                let (head, state) = answered(sending).await?;
                context.exchanges.open.insert(number, Exchange { handle, state });
                let message = format!("the host has answered and reads no more of the request: {head}");
                return Err(CallError::new(AbiError::Unavailable, message));
            }
            Err(_) => {
                let message = "the host took too long to take what was written; the exchange is given up";
                return Err(CallError::new(AbiError::TimedOut, message));
            }
        }
    }
    let state = State::Writing(sending, Some(sender));
    context.exchanges.open.insert(number, Exchange { handle, state });
    Ok(json!({ "written": length }).to_string().into())
}

/// The way out, and leave for a URL: within the grant, and permitted by itself.
fn decide(
    context: &mut HostContext,
    permission: &Permission,
    url: &str,
) -> Result<(Arc<Outbound>, Permission), CallError> {
    let used = target(&parse(url)?)?;
    if !permission.capability().covers(&used) {
        // Its own message says for what.
        context.gate.refuse(&used, OTHER_GRANT);
        let message = format!("the grant is for `{}`, not for `{used}`", permission.capability());
        return Err(CallError::new(AbiError::Denied, message));
    }
    let outbound = Arc::clone(context.outbound());
    let permission = outbound.decide(&used)?;
    Ok((outbound, permission))
}

fn parse(url: &str) -> Result<Uri, CallError> {
    let wrong = |why: &dyn fmt::Display| {
        CallError::malformed(format!("`{}` is no URL: {why}", escape_untrusted(url, 100)))
    };
    if url.len() > MAX_URL_BYTES {
        return Err(CallError::new(
            AbiError::TooLarge,
            format!("the URL has {} bytes, the limit is {MAX_URL_BYTES}", url.len()),
        ));
    }
    url.parse().map_err(|error: http::uri::InvalidUri| wrong(&error))
}

impl Asked {
    fn content(&self) -> Result<Content, CallError> {
        if self.body.is_none() && self.body_base64.is_none() {
            return Ok(Empty::new().map_err(|never| match never {}).boxed_unsync());
        }
        let bytes = content(self.body.as_deref(), self.body_base64.as_deref())?;
        Ok(Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync())
    }

    /// Whether its method has one, when nobody says how long it is.
    fn has_body(&self) -> bool {
        !matches!(self.method.as_deref(), None | Some("GET" | "HEAD"))
    }

    fn patience(&self) -> Patience {
        let time = self.timeout_ms.map(Duration::from_millis);
        Patience { connect: time, first_byte: time, between_bytes: time }
    }

    fn request(&self, body: Content) -> Result<Request<Content>, CallError> {
        let method = self.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| CallError::malformed(format!("`{}` is no method", escape_untrusted(method, 40))))?;
        let uri = parse(&self.url)?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let mut headers = headers(&self.headers, authority)?;
        if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// The guest's headers, without those that are the connection's.
fn headers(given: &[(String, String)], authority: &str) -> Result<HeaderMap, CallError> {
    let mut headers = HeaderMap::with_capacity(given.len());
    for (name, value) in given {
        let shown = escape_untrusted(name, 60);
        if value.len() > MAX_HEADER_BYTES {
            let message =
                format!("the header `{shown}` has {} bytes, the limit is {MAX_HEADER_BYTES}", value.len());
            return Err(CallError::new(AbiError::TooLarge, message));
        }
        let wrong = |what: &str| CallError::malformed(format!("the header `{shown}` {what}"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("has no valid name"))?;
        let value = HeaderValue::from_str(value).map_err(|_| wrong("holds what no header may hold"))?;
        if name == HOST {
            if !value.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                return Err(wrong("names another host than the URL; leave it out"));
            }
            continue;
        }
        let is_ours =
            [CONTENT_LENGTH, TE, TRAILER].contains(&name) || DEFAULT_FORBIDDEN_HEADERS.contains(&name);
        if is_ours {
            return Err(wrong("is set by the host; leave it out"));
        }
        headers.append(name, value);
    }
    Ok(headers)
}

/// The beginning of a response, and the exchange as it goes on.
async fn answered(sending: Sending) -> Result<(serde_json::Value, State), CallError> {
    let response = sending.await?;
    let head = describe(&response);
    Ok((head, State::Reading(response.into_body(), Bytes::new())))
}

/// A response with its body.
async fn gather(response: Response<Received>) -> Result<Bytes, CallError> {
    let mut told = describe(&response);
    let body = Limited::new(response.into_body(), MAX_WHOLE_BYTES).collect().await.map_err(|error| {
        match error.downcast::<NetworkError>() {
            Ok(error) => (*error).into(),
            Err(_) => CallError::new(
                AbiError::TooLarge,
                format!(
                    "the response has more than {MAX_WHOLE_BYTES} bytes; read it in pieces, by `open`, `response` \
                     and `read`"
                ),
            ),
        }
    })?;
    let body = body.to_bytes();
    if let Some(fields) = told.as_object_mut() {
        match std::str::from_utf8(&body) {
            Ok(text) if is_text(text) => fields.insert("body".into(), text.into()),
            _ => fields.insert("body_base64".into(), STANDARD.encode(&body).into()),
        };
    }
    Ok(told.to_string().into())
}

/// Whether it is what people call text: control characters would make JSON of it six times as long.
fn is_text(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\r' | b'\t'))
}

fn describe(response: &Response<Received>) -> serde_json::Value {
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])
    };
    let headers: Vec<_> = response.headers().iter().map(header).collect();
    json!({ "status": response.status().as_u16(), "headers": headers })
}

impl fmt::Debug for Exchanges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exchanges").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

//! Objects of the media store over HTTP: stored as they come and sent as they are taken, a piece at a time, whatever their size.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{Stream, stream};
use http_body_util::BodyExt;
use mentat_manifest::{ByteCount, escape_untrusted};
use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use serde::Serialize;
use utoipa::ToSchema;

use super::bodies::RawBody;
use super::reply::{ErrorBody, Reply};
use super::requests::{Authenticated, name, refusal};
use crate::dispatch::{StoredContent, StoredObject};
use crate::door::DoorState;
use crate::transport::Charge;

/// The media type of those who say none.
const UNKNOWN_TYPE: &str = "application/octet-stream";
/// Bytes of an upload that count as on their way, though more has come: what is not with the store yet.
const UPLOAD_HELD_BYTES: usize = 6 << 20;
/// Bytes of a refused body that are read all the same, and how long it may take to come.
const DRAINED_BYTES: usize = 256 << 10;
const LONGEST_DRAIN: Duration = Duration::from_secs(1);
/// Characters of a name that an error repeats.
const MAX_SHOWN_CHARS: usize = 120;
/// What a browser may do with an object, which can be a page of anybody's: show nothing of it here.
const SHOW_NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");

/// An object that was stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StoredBody {
    /// What it is called from now on: `media://sha256/` and the digest of its content.
    reference: String,
    /// Its bytes.
    bytes: u64,
    /// What kind of content it is said to be.
    media_type: String,
}

/// Stores the body as an object of the caller's tenant, of the media type that `Content-Type` says, and answers how it is called.
///
/// The same content is one object however often it is stored.
#[utoipa::path(post, path = "/v1/media", tag = "media", request_body(content((RawBody = "application/octet-stream"))),
    responses((status = 201, body = StoredBody), (status = "4XX", body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(super) async fn store(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> Result<Response, Reply> {
    let (parts, mut body) = request.into_parts();
    match take(&state, &caller, &parts, &mut body).await {
        Ok((stored, media_type)) => {
            let StoredObject { reference, bytes } = stored;
            let location = reference.replacen("media://", "/v1/media/", 1);
            let body = StoredBody { reference, bytes, media_type };
            Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(body)).into_response())
        }
        Err(refused) => {
            // Whoever waits to be told to send has nothing on its way.
            if !parts.headers.contains_key(header::EXPECT) {
                let _ = tokio::time::timeout(LONGEST_DRAIN, drain(&mut body)).await;
            }
            Err(refused)
        }
    }
}

/// Takes the body in, to its end.
async fn take(
    state: &DoorState,
    caller: &Caller,
    parts: &Parts,
    body: &mut Body,
) -> Result<(StoredObject, String), Reply> {
    let media_type = said_type(&parts.headers)?;
    check_length(&parts.headers, state.max_object)?;
    let mut object = state.dispatcher.begin_object(caller, &media_type).await?;
    let mut received = 0_u64;
    let mut held = Held { charge: parts.extensions.get().cloned(), bytes: 0 };
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|error| refusal(&error))?.into_data() else { continue };
        received = received.saturating_add(piece.len() as u64);
        if received > state.max_object.0 {
            return Err(too_large(state.max_object));
        }
        object.write(&piece).await?;
        held.pass_on(piece.len());
    }
    // On record, also where the connection is cut now.
    let (dispatcher, caller) = (Arc::clone(&state.dispatcher), caller.clone());
    let finishing = state.tasks.spawn(async move { dispatcher.finish_object(&caller, object).await });
    let stored = finishing.await.map_err(|error| Error::internal("storing an object", error))?;
    Ok((stored?, media_type))
}

/// The content of an object of the caller's tenant, or a part of it by `Range` (RFC 9110, section 14).
#[utoipa::path(get, path = "/v1/media/{name}", tag = "media",
    params(("name" = String, Path, description = "What follows `media://` in the reference, slashes included")),
    responses((status = 200, content_type = "application/octet-stream", body = RawBody), (status = 206, content_type = "application/octet-stream", body = RawBody), (status = 304), (status = "4XX", body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(super) async fn fetch(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    method: Method,
    asked: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Reply> {
    let name = name(asked)?;
    let Some(mut content) = state.dispatcher.look_at_object(&caller, &format!("media://{name}")).await?
    else {
        let name = escape_untrusted(&name, MAX_SHOWN_CHARS);
        return Err(Reply::transport(StatusCode::NOT_FOUND, format!("there is no object `media://{name}`")));
    };
    let told = told_of(&content);
    if is_known(&headers, told.get(header::ETAG)) {
        return Ok((StatusCode::NOT_MODIFIED, told).into_response());
    }
    let size = content.bytes();
    let (status, range) = match wanted(&headers, told.get(header::ETAG), size) {
        Wanted::All => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => {
            let message = format!("`Range` is for no part of an object of {size} bytes");
            let mut refused = Reply::transport(StatusCode::RANGE_NOT_SATISFIABLE, message).into_response();
            refused.headers_mut().insert(header::CONTENT_RANGE, header_value(format!("bytes */{size}")));
            return Ok(refused);
        }
    };
    let length = range.end.saturating_sub(range.start);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().extend(told);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
        response.headers_mut().insert(header::CONTENT_RANGE, header_value(part));
    }
    if method != Method::HEAD {
        content.seek(range.start);
        // Before the head is sent: what is wrong at once can still be told.
        let first = state.dispatcher.read_object(&caller, &mut content, length).await?;
        *response.body_mut() = Body::from_stream(pieces(content, first, length, state));
    }
    Ok(response)
}

/// What is told of an object beside its content.
fn told_of(content: &StoredContent) -> HeaderMap {
    let modified = DateTime::<Utc>::from(content.modified()).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut told = HeaderMap::new();
    told.insert(header::CONTENT_TYPE, header_value(content.media_type().to_owned()));
    told.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    told.insert(header::CONTENT_SECURITY_POLICY, SHOW_NOTHING);
    told.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    told.insert(header::LAST_MODIFIED, header_value(modified));
    if let Some(digest) = content.digest() {
        told.insert(header::ETAG, header_value(format!("\"{digest}\"")));
    }
    told
}

/// Media types, times and numbers are what a header can hold.
fn header_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(UNKNOWN_TYPE))
}

/// Whether the client has the content already, as it says by `If-None-Match`.
fn is_known(headers: &HeaderMap, tag: Option<&HeaderValue>) -> bool {
    let Some(tag) = tag.and_then(|tag| tag.to_str().ok()) else { return false };
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|known| known.to_str().ok());
    let mut known = known.flat_map(|known| known.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// What of an object a client wants.
enum Wanted {
    All,
    Part(Range<u64>),
    /// A part that there is not.
    Nothing,
}

/// One part alone, and only of what the client has begun with. Who asks for several is sent all of it.
fn wanted(headers: &HeaderMap, tag: Option<&HeaderValue>, size: u64) -> Wanted {
    let Some(Ok(asked)) = headers.get(header::RANGE).map(HeaderValue::to_str) else { return Wanted::All };
    if headers.get(header::IF_RANGE).is_some_and(|begun_with| Some(begun_with) != tag) {
        return Wanted::All;
    }
    let Ok(parsed) = http_range_header::parse_range_header(asked) else { return Wanted::All };
    match parsed.validate(size).as_deref() {
        Ok([part]) => Wanted::Part(*part.start()..part.end().saturating_add(1)),
        Ok(_) => Wanted::All,
        Err(_) => Wanted::Nothing,
    }
}

/// The pieces of an object, so many bytes of it; the next is read when the last was taken. Where one cannot be had the connection is
/// cut, so that nobody takes a part for the whole.
fn pieces(
    content: StoredContent,
    first: Bytes,
    length: u64,
    state: DoorState,
) -> impl Stream<Item = Result<Bytes, Error>> {
    let begun: (_, _, _, Option<Charge>) = (content, Some(first), length, None);
    stream::try_unfold(begun, move |(mut content, first, left, sent)| {
        let state = Arc::clone(&state);
        async move {
            drop(sent);
            let piece = match first {
                Some(first) => first,
                None => content.next(left).await?,
            };
            if piece.is_empty() {
                return Ok(None);
            }
            let held = state.traffic.hold(piece.len()).ok_or_else(|| Error::Overloaded {
                message: "the server sends as much as it can hold; try again later".into(),
                retry_after: Duration::from_secs(1),
            })?;
            let left = left.saturating_sub(piece.len() as u64);
            Ok(Some((piece, (content, None, left, Some(held)))))
        }
    })
}

/// Reads what little there is of a body that is refused: clients that are still sending hear nothing.
async fn drain(body: &mut Body) {
    let mut left = DRAINED_BYTES;
    while left > 0
        && let Some(Ok(frame)) = body.frame().await
    {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len).max(1));
    }
}

/// What of an upload is on its way.
struct Held {
    charge: Option<Arc<Charge>>,
    bytes: usize,
}

impl Held {
    /// So many more bytes came, and others are with the store for that.
    fn pass_on(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        let stored = self.bytes.saturating_sub(UPLOAD_HELD_BYTES);
        if let Some(charge) = &self.charge {
            charge.give_back(stored);
        }
        self.bytes -= stored;
    }
}

fn said_type(headers: &HeaderMap) -> Result<String, Error> {
    let Some(said) = headers.get(header::CONTENT_TYPE) else { return Ok(UNKNOWN_TYPE.to_owned()) };
    said.to_str().map(str::to_owned).map_err(|_| Error::InvalidRequest {
        message: "`Content-Type` is not text; say what the object is, such as `image/png`".into(),
    })
}

/// Refuses a body by the length that it is said to have, before it is read.
fn check_length(headers: &HeaderMap, limit: ByteCount) -> Result<(), Reply> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit.0) { Err(too_large(limit)) } else { Ok(()) }
}

fn too_large(limit: ByteCount) -> Reply {
    let message = format!("the object has more than {limit}, which is the limit (`media.object_bytes`)");
    Reply::transport(StatusCode::PAYLOAD_TOO_LARGE, message)
}

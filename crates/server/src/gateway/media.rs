//! Objects of the media store over HTTP: stored as they come and sent as they are taken, a piece at a time, whatever their size.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{Stream, stream};
use http_body_util::BodyExt;
use mentat_manifest::{ByteCount, escape_untrusted};
use mentat_runtime::error::Error;
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
    let media_type = said_type(&parts.headers)?;
    let begun = async {
        check_length(&parts.headers, state.max_object)?;
        Ok::<_, Reply>(state.dispatcher.begin_object(&caller, &media_type).await?)
    };
    let mut object = match begun.await {
        Ok(object) => object,
        Err(refused) => {
            let _ = tokio::time::timeout(LONGEST_DRAIN, drain(&mut body)).await;
            return Err(refused);
        }
    };
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
    let StoredObject { reference, bytes } = state.dispatcher.finish_object(&caller, object).await?;
    let location = reference.replacen("media://", "/v1/media/", 1);
    let body = StoredBody { reference, bytes, media_type };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(body)).into_response())
}

/// The content of an object of the caller's tenant.
#[utoipa::path(get, path = "/v1/media/{name}", tag = "media",
    params(("name" = String, Path, description = "What follows `media://` in the reference, slashes included")),
    responses((status = 200, content_type = "application/octet-stream", body = RawBody), (status = "4XX", body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(super) async fn fetch(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    asked: Result<Path<String>, PathRejection>,
) -> Result<Response, Reply> {
    let name = name(asked)?;
    let Some(content) = state.dispatcher.open_object(&caller, &format!("media://{name}")).await? else {
        let name = escape_untrusted(&name, MAX_SHOWN_CHARS);
        return Err(Reply::transport(StatusCode::NOT_FOUND, format!("there is no object `media://{name}`")));
    };
    let modified = DateTime::<Utc>::from(content.modified()).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let media_type =
        HeaderValue::from_str(content.media_type()).unwrap_or(HeaderValue::from_static(UNKNOWN_TYPE));
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_LENGTH, HeaderValue::from(content.bytes())),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (header::CONTENT_SECURITY_POLICY, SHOW_NOTHING),
    ];
    Ok((headers, [(header::LAST_MODIFIED, modified)], Body::from_stream(pieces(content, state)))
        .into_response())
}

/// The pieces of an object; the next is read when the last was taken. Where one cannot be had the connection is cut, so that
/// nobody takes a part for the whole.
fn pieces(content: StoredContent, state: DoorState) -> impl Stream<Item = Result<Bytes, Error>> {
    stream::try_unfold((content, None), move |(mut content, sent): (_, Option<Charge>)| {
        let state = Arc::clone(&state);
        async move {
            drop(sent);
            let piece = content.next().await?;
            if piece.is_empty() {
                return Ok(None);
            }
            let held = state.traffic.hold(piece.len()).ok_or_else(|| Error::Overloaded {
                message: "the server sends as much as it can hold; try again later".into(),
                retry_after: Duration::from_secs(1),
            })?;
            Ok(Some((piece, (content, Some(held)))))
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

//! What a request carries, read within its limits: whose it is, its names, its query, its body. Whatever cannot be
//! read is refused in the common form.

use std::error::Error as StdError;

use axum::body::HttpBody;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use mentat_manifest::{ByteCount, escape_untrusted};
use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use serde::de::DeserializeOwned;

use super::form::FORM;
use super::reply::Reply;
use crate::door::DoorState;
use crate::transport::{BodyError, Peer};

const JSON: &str = "application/json";

/// Whose call it is; what every handler of agents and executions asks for first, before a body is read.
pub(super) struct Authenticated(pub(super) Caller);

impl FromRequestParts<DoorState> for Authenticated {
    type Rejection = Reply;

    async fn from_request_parts(parts: &mut Parts, state: &DoorState) -> Result<Self, Reply> {
        authenticate(state, parts).map(Self)
    }
}

/// Whose call it is.
///
/// # Errors
/// `UNAUTHENTICATED`.
pub(super) fn authenticate(state: &DoorState, parts: &Parts) -> Result<Caller, Reply> {
    let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let peer = parts.extensions.get::<Peer>();
    Ok(state.authenticator.authenticate(header, peer)?)
}

/// Reads a body; one over the limit is refused by its declared length, before it is read.
///
/// # Errors
/// `INVALID_REQUEST` with the status that HTTP has for it; `OVERLOADED`.
pub(super) async fn read<B>(state: &DoorState, headers: &HeaderMap, body: B) -> Result<Bytes, Reply>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: StdError + 'static,
{
    read_within(state.max_message, headers, body).await
}

/// The same, by a limit of its own.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_within<B>(limit: ByteCount, headers: &HeaderMap, mut body: B) -> Result<Bytes, Reply>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: StdError + 'static,
{
    let too_large = || {
        let message = format!("the body is over this server's limit of {limit}");
        Reply::transport(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit.0) {
        return Err(too_large());
    }
    // Most bodies are one piece, which is kept as it is.
    let (mut first, mut read) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|error| refusal(&error))?.into_data() else { continue };
        if (first.len() + read.len() + piece.len()) as u64 > limit.0 {
            return Err(too_large());
        }
        if first.is_empty() && read.is_empty() {
            first = piece;
        } else {
            read.extend_from_slice(&std::mem::take(&mut first));
            read.extend_from_slice(&piece);
        }
    }
    Ok(if read.is_empty() { first } else { read.freeze() })
}

/// What is told of a body that does not come.
pub(super) fn refusal(error: &(dyn StdError + 'static)) -> Reply {
    match BodyError::among(error) {
        Some(silent @ BodyError::Silent(_)) => {
            Reply::transport(StatusCode::REQUEST_TIMEOUT, silent.to_string())
        }
        Some(other) => other.to_error().into(),
        // The connection is gone; nobody hears this.
        None => Error::Cancelled.into(),
    }
}

/// Reads a JSON body.
///
/// # Errors
/// `INVALID_REQUEST` that names the key.
pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let place = match error.path().to_string().as_str() {
            // The whole of it; or text that is no JSON, which has no keys.
            "." | "?" => String::new(),
            key => format!(" at `{key}`"),
        };
        wrong(&format!("the body{place}: {}", error.inner()))
    })?;
    deserializer.end().map_err(|error| wrong(&format!("the body: {error}")))?;
    Ok(parsed)
}

/// What a query asks for.
///
/// # Errors
/// `INVALID_REQUEST` that names the key.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Error> {
    query.map(|Query(query)| query).map_err(|error| wrong(&error.body_text()))
}

/// The name in a path.
///
/// # Errors
/// `INVALID_REQUEST` for a name that is not UTF-8.
pub(super) fn name(path: Result<Path<String>, PathRejection>) -> Result<String, Error> {
    path.map(|Path(name)| name).map_err(|error| wrong(&error.body_text()))
}

/// What a body is said to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// JSON.
    Json,
    /// A form with files; the text holds what separates its fields.
    Form(&'a str),
    /// Anything else, or not said.
    Other,
}

/// What the body is said to be.
pub(super) fn kind(headers: &HeaderMap) -> Kind<'_> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match said.split(';').next().unwrap_or_default().trim() {
        kind if kind.eq_ignore_ascii_case(JSON) => Kind::Json,
        kind if kind.eq_ignore_ascii_case(FORM) => Kind::Form(said),
        _ => Kind::Other,
    }
}

/// The refusal of a body of a kind that is not taken here.
pub(super) fn unsupported(taken: &str) -> Reply {
    let message = format!("the body must be {taken}; say so in `Content-Type`");
    Reply::transport(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

fn wrong(message: &str) -> Error {
    Error::InvalidRequest { message: escape_untrusted(message, 400) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::bodies::ExecuteBody;

    fn wrong_with(text: &str) -> String {
        parse_json::<ExecuteBody>(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_with_a_body_is_told_with_its_key() {
        assert!(
            wrong_with(r#"{"limits": {"fuel": -1}}"#).starts_with("the body at `limits.fuel`: invalid value")
        );
        assert!(wrong_with("\"text\"").starts_with("the body: invalid type"));
        assert!(wrong_with("{").starts_with("the body: EOF"));
        assert!(wrong_with("{} {}").starts_with("the body: trailing characters"));
        assert!(wrong_with(r#"{"inptu": ""}"#).contains("unknown field `inptu`"));
    }

    #[test]
    fn kinds_are_told_by_the_media_type_alone() {
        let kind_of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            match kind(&headers) {
                Kind::Json => "json",
                Kind::Form(_) => "form",
                Kind::Other => "other",
            }
        };
        assert_eq!(kind_of("Application/JSON; charset=utf-8"), "json");
        assert_eq!(kind_of("multipart/form-data; boundary=x"), "form");
        assert_eq!((kind_of("application/jsonl"), kind_of("text/plain")), ("other", "other"));
        assert_eq!(kind(&HeaderMap::new()), Kind::Other);
    }

    #[tokio::test]
    async fn a_name_that_is_no_text_is_refused_in_the_common_form() {
        use axum::body::Body;
        use tower::ServiceExt;
        let handler = async |path: Result<Path<String>, PathRejection>| Ok::<_, Reply>(name(path)?);
        let router = axum::Router::new().route("/{id}", axum::routing::get(handler));
        let request = axum::extract::Request::get("/%FF").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["reason"], "INVALID_REQUEST");
    }
}

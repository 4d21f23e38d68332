//! Streams that agents elsewhere publish, by the verbs of MentatLab's gateway.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use mentat_runtime::error::Error;
use mentat_runtime::model::ExecutionId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::bodies::agent_id;
use super::messages::{rfc3339, stream_id_of};
use super::reply::{ErrorBody, Reply};
use super::requests::{Authenticated, Kind, kind, name, parse_json, read, read_within, unsupported};
use crate::dispatch::PublishedStream;
use crate::door::DoorState;

/// Levels of lists and objects in what is published; many libraries read no more than some hundred.
const MAX_DEPTH: usize = 100;

/// The pin of those who name none.
const DEFAULT_PIN: &str = "output";

/// Asks for a stream.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InitBody {
    /// The agent that publishes. It need not be loaded here.
    agent_id: String,
    /// The pin of the agent that it is for; `output` where left out.
    pin_name: Option<String>,
}

/// A stream that was opened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OpenedBody {
    stream_id: String,
    /// Where it is followed by WebSocket.
    ws_url: String,
    /// Where it is followed by server-sent events.
    sse_url: String,
    /// `active`.
    status: &'static str,
}

/// Something that was published.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PublishedBody {
    message: &'static str,
    /// The number of the event.
    sequence: u64,
}

/// A stream that has ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndedBody {
    message: String,
}

/// An open stream, as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamBody {
    stream_id: String,
    agent_id: String,
    pin_name: String,
    /// `active`.
    status: &'static str,
    /// RFC 3339.
    created_at: String,
    /// How many read it now.
    subscriber_count: usize,
    /// How much was published.
    message_count: u64,
    /// RFC 3339.
    last_activity: String,
}

/// The open streams.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamsBody {
    streams: Vec<StreamBody>,
}

/// Opens a stream for an agent that runs elsewhere and publishes here. One to which nothing is published for
/// `streams.idle_ms` is given up.
#[utoipa::path(post, path = "/api/v1/streams/init", tag = "streams", request_body = InitBody,
    responses((status = 200, body = OpenedBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn init(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<OpenedBody>, Reply> {
    let body: InitBody = json(&state, &headers, body).await?;
    let pin = body.pin_name.as_deref().unwrap_or(DEFAULT_PIN);
    let stream_id = state.dispatcher.open_stream(&caller, &agent_id(&body.agent_id)?, pin)?;
    Ok(Json(OpenedBody {
        stream_id: stream_id.to_string(),
        ws_url: format!("/ws/streams/{stream_id}"),
        sse_url: format!("/api/v1/streams/{stream_id}/sse"),
        status: "active",
    }))
}

/// Publishes: the body becomes the `data` of a message to all who follow the stream.
#[utoipa::path(post, path = "/api/v1/streams/{stream_id}/publish", tag = "streams",
    params(("stream_id" = String, Path, description = "The stream")), request_body(content_type = "application/json", content = Object),
    responses((status = 200, body = PublishedBody), (status = "4XX", body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(super) async fn publish(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    stream_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PublishedBody>, Reply> {
    let stream_id = id(stream_id)?;
    if kind(&headers) != Kind::Json {
        return Err(unsupported("`application/json`"));
    }
    // Kept as text: as values it would take many times its size.
    let data: Box<RawValue> = parse_json(&read_within(state.max_event, &headers, body).await?)?;
    if !data.get().starts_with('{') {
        return Err(Error::InvalidRequest { message: "the body is no JSON object".into() }.into());
    }
    let sequence = state.dispatcher.publish(&caller, stream_id, in_one_line(&data)?).await?;
    Ok(Json(PublishedBody { message: "Data published", sequence }))
}

/// Ends a stream; who follows it then knows that there is no more. What was published is kept for a while.
#[utoipa::path(delete, path = "/api/v1/streams/{stream_id}", tag = "streams",
    params(("stream_id" = String, Path, description = "The stream")),
    responses((status = 200, body = EndedBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn end(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    stream_id: Result<Path<String>, PathRejection>,
) -> Result<Json<EndedBody>, Reply> {
    let stream_id = id(stream_id)?;
    state.dispatcher.end_stream(&caller, stream_id)?;
    Ok(Json(EndedBody { message: format!("Stream {stream_id} ended") }))
}

/// The open streams of the caller's tenant, in the order in which they were opened.
#[utoipa::path(get, path = "/api/v1/streams", tag = "streams",
    responses((status = 200, body = StreamsBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
) -> Json<StreamsBody> {
    let streams = state.dispatcher.list_streams(&caller).into_iter().map(StreamBody::from).collect();
    Json(StreamsBody { streams })
}

/// An open stream, as it stands.
#[utoipa::path(get, path = "/api/v1/streams/{stream_id}", tag = "streams",
    params(("stream_id" = String, Path, description = "The stream")),
    responses((status = 200, body = StreamBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    stream_id: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, Json<StreamBody>), Reply> {
    Ok((StatusCode::OK, Json(state.dispatcher.get_stream(&caller, id(stream_id)?)?.into())))
}

/// The same without the blanks between its parts, so that it is a line wherever lines are told.
fn in_one_line(data: &RawValue) -> Result<Box<RawValue>, Error> {
    let (mut text, mut in_string, mut is_escaped) = (String::with_capacity(data.get().len()), false, false);
    let mut depth = 0_usize;
    for character in data.get().chars() {
        if in_string {
            in_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
        } else if character.is_ascii_whitespace() {
            continue;
        } else {
            in_string = character == '"';
            match character {
                '{' | '[' => depth = depth.saturating_add(1),
                '}' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_DEPTH {
                let message = format!(
                    "the body is nested deeper than {MAX_DEPTH} levels, which most readers cannot read"
                );
                return Err(Error::InvalidRequest { message });
            }
        }
        text.push(character);
    }
    RawValue::from_string(text).map_err(|error| Error::internal("reading what is published", error))
}

fn id(path: Result<Path<String>, PathRejection>) -> Result<ExecutionId, Error> {
    stream_id_of(&name(path)?)
}

async fn json<T: serde::de::DeserializeOwned>(
    state: &DoorState,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Reply> {
    if kind(headers) != Kind::Json {
        return Err(unsupported("`application/json`"));
    }
    Ok(parse_json(&read(state, headers, body).await?)?)
}

impl From<PublishedStream> for StreamBody {
    fn from(stream: PublishedStream) -> Self {
        Self {
            stream_id: stream.stream_id.to_string(),
            agent_id: stream.agent.to_string(),
            pin_name: stream.pin.to_string(),
            status: "active",
            created_at: rfc3339(stream.opened),
            subscriber_count: stream.readers,
            message_count: stream.messages,
            last_activity: rfc3339(stream.used),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_becomes_one_line_and_stays_what_it_is() {
        let text = " {\n \"a b\" : [ 1 , \"x \\\" \\\\\" , {} ] ,\t\"c\": null }";
        let data: Box<RawValue> = serde_json::from_str(text).unwrap();
        assert_eq!(in_one_line(&data).unwrap().get(), "{\"a b\":[1,\"x \\\" \\\\\",{}],\"c\":null}");
    }
}

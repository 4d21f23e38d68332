//! Streams as server-sent events (WHATWG HTML, section 9.2): the way of browsers, which come back by themselves with the
//! number of the last event that they saw.

use std::convert::Infallible;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use futures::stream;
use mentat_runtime::error::Error;

use super::messages::{Follower, MessageType, StreamQuery, Told};
use super::reply::{ErrorBody, Reply};
use super::requests::{Authenticated, name, query};
use crate::door::DoorState;
use crate::transport::Charge;

/// Names the last event that a browser saw before its connection was cut.
const LAST_EVENT_ID: &str = "last-event-id";

/// What an execution says, as server-sent events: what is kept of it, then the rest as it comes.
///
/// A reader that lost its connection names the last event that it saw in `Last-Event-ID`, as browsers do by themselves, and
/// goes on behind it; 204 says that there is nothing more.
#[utoipa::path(get, path = "/api/v1/streams/{stream_id}/sse", tag = "streams",
    params(("stream_id" = String, Path, description = "The stream: the execution's id"), StreamQuery),
    responses((status = 200, content_type = "text/event-stream", description = "One event for each message; `schemas/asyncapi.yaml` describes them", body = String),
        (status = 204, description = "There is nothing behind the last event that was seen"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn follow(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    stream_id: Result<Path<String>, PathRejection>,
    asked: Result<Query<StreamQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Reply> {
    let (stream_id, asked) = (name(stream_id)?, query(asked)?);
    let from = match last_seen(&headers)? {
        Some(last) => last.saturating_add(1),
        None => asked.from_sequence.unwrap_or_default(),
    };
    let (follower, _) = Follower::new(&state, &caller, &stream_id, from, asked.format)?;
    if from > 0 && follower.is_at_end() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Sse::new(events(follower, state)).into_response())
}

fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| Error::InvalidRequest {
        message: "`Last-Event-ID` is not the number of an event of this stream".into(),
    })
}

/// Where a reader is.
enum Place {
    Start(Follower),
    /// What it was told last is counted until it comes for the next.
    Middle(Follower, Charge),
    End,
}

fn events(follower: Follower, state: DoorState) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((Place::Start(follower), state), async |(place, state)| {
        let (told, follower) = match place {
            Place::Start(follower) => (follower.start(), follower),
            Place::Middle(mut follower, sent) => {
                drop(sent);
                let next = tokio::time::timeout(state.heartbeat, follower.next());
                // A browser comes back, to another server perhaps, with the number of what it saw last.
                match state.closing.run_until_cancelled(next).await? {
                    Ok(delivery) => (follower.tell(delivery?), follower),
                    Err(_elapsed) => (follower.heartbeat(), follower),
                }
            }
            Place::End => return None,
        };
        // Where too much is on its way, it comes back later.
        let sent = state.traffic.hold(told.text.len())?;
        let is_end = matches!(told.kind, MessageType::StreamEnd | MessageType::StreamError);
        let place = if is_end { Place::End } else { Place::Middle(follower, sent) };
        Some((Ok(event(told)), (place, state)))
    })
}

fn event(told: Told) -> Event {
    let event = Event::default().event(told.kind.as_str()).data(told.text);
    match told.sequence {
        Some(sequence) => event.id(sequence.to_string()),
        None => event,
    }
}

//! What followers of a stream are told, as JSON: the messages of MentatLab's gateway, or the same in CloudEvents.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use mentat_runtime::error::Error;
use mentat_runtime::events::{Delivery, EventReader};
use mentat_runtime::model::{Caller, Event, ExecutionId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::door::DoorState;

/// How a stream is read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StreamQuery {
    /// The number of the first event that is wanted: 0 for all, one more than that of the last one seen to go on.
    pub(super) from_sequence: Option<u64>,
    /// In which form messages come.
    pub(super) format: Format,
    /// Whether the execution is ended when this reader goes away; for WebSockets only.
    pub(super) cancel_on_disconnect: bool,
}

/// In which form messages come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// `{type, data, stream_id, agent_id, sequence, timestamp}`.
    #[default]
    Json,
    /// CloudEvents 1.0 in JSON.
    CloudEvents,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MessageType {
    /// The first message: there is such a stream.
    StreamStart,
    /// An event.
    StreamData,
    /// The end of an execution that ran to its end.
    StreamEnd,
    /// The end of any other.
    StreamError,
    /// Nothing has happened.
    Heartbeat,
}

/// A message as MentatLab's gateway has it.
#[derive(Debug, Serialize)]
struct Message<'a, D: ?Sized> {
    r#type: MessageType,
    data: &'a D,
    stream_id: &'a str,
    agent_id: &'a str,
    /// Of messages that are events.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    timestamp: String,
}

/// The same by the CloudEvents specification, version 1.0, JSON format.
#[derive(Debug, Serialize)]
struct CloudEvent<'a, D: ?Sized> {
    specversion: &'static str,
    /// Unique with the source; of messages that are no events, by their time.
    id: String,
    source: String,
    r#type: String,
    time: String,
    subject: &'a str,
    datacontenttype: &'static str,
    data: &'a D,
}

/// A message that is ready to be sent.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) kind: MessageType,
    /// What a reader that saw it names to go on behind it.
    pub(super) sequence: Option<u64>,
    pub(super) text: String,
}

/// One who follows an execution.
pub(super) struct Follower {
    reader: EventReader,
    agent: String,
    stream_id: String,
    format: Format,
}

impl Follower {
    /// # Errors
    /// `STREAM_NOT_FOUND`, `INVALID_REQUEST`.
    pub(super) fn new(
        state: &DoorState,
        caller: &Caller,
        stream_id: &str,
        from_sequence: u64,
        format: Format,
    ) -> Result<(Self, ExecutionId), Error> {
        let execution_id = stream_id_of(stream_id)?;
        let reader = state.dispatcher.follow(caller, execution_id, from_sequence)?;
        let agent = reader.buffer().agent().map(ToString::to_string).unwrap_or_default();
        Ok((Self { reader, agent, stream_id: execution_id.to_string(), format }, execution_id))
    }

    /// Whether there is nothing more to come, and nothing to be told.
    pub(super) fn is_at_end(&self) -> bool {
        self.reader.is_at_end()
    }

    /// The message that begins the stream.
    pub(super) fn start(&self) -> Told {
        self.told(MessageType::StreamStart, &json!({}), None, SystemTime::now())
    }

    /// The message that says that nothing has happened.
    pub(super) fn heartbeat(&self) -> Told {
        self.told(MessageType::Heartbeat, &json!({}), None, SystemTime::now())
    }

    /// Waits for what is to be told next; `None` at the end. Nothing is lost where this is given up.
    pub(super) async fn next(&mut self) -> Option<Delivery> {
        self.reader.next().await
    }

    /// What is to be told next, if it is there already.
    pub(super) fn now(&mut self) -> Option<Delivery> {
        self.reader.now()
    }

    /// The message that tells it.
    pub(super) fn tell(&self, delivery: Delivery) -> Told {
        let event = match delivery {
            Delivery::Missed { first, last } => {
                let data = json!({ "kind": "missed", "first": first, "last": last });
                return self.told(MessageType::StreamData, &data, Some(last), SystemTime::now());
            }
            Delivery::Event(event) => event,
        };
        let kind = match &event.event {
            Event::End(ended) if ended.result.is_ok() => MessageType::StreamEnd,
            Event::Closed { whole: true } => MessageType::StreamEnd,
            Event::End(_) | Event::Closed { .. } => MessageType::StreamError,
            // As it is: as a value it would take many times its size.
            said => return self.told(MessageType::StreamData, said, Some(event.sequence), event.time),
        };
        let mut data = event.event.to_json();
        if let Some(data) = data.as_object_mut() {
            data.insert("total_chunks".into(), self.reader.buffer().total_chunks().into());
        }
        self.told(kind, &data, Some(event.sequence), event.time)
    }

    fn told<D: Serialize + ?Sized>(
        &self,
        kind: MessageType,
        data: &D,
        sequence: Option<u64>,
        time: SystemTime,
    ) -> Told {
        let timestamp = rfc3339(time);
        let text = match self.format {
            Format::Json => {
                let (stream_id, agent_id) = (self.stream_id.as_str(), &self.agent);
                json_of(&Message { r#type: kind, data, stream_id, agent_id, sequence, timestamp })
            }
            Format::CloudEvents => json_of(&CloudEvent {
                specversion: "1.0",
                id: sequence
                    .map_or_else(|| format!("{}-{timestamp}", kind.as_str()), |number| number.to_string()),
                source: format!("/v1/executions/{}", self.stream_id),
                r#type: format!("mentat.runtime.{}", kind.as_str()),
                time: timestamp,
                subject: &self.agent,
                datacontenttype: "application/json",
                data,
            }),
        };
        Told { kind, sequence, text }
    }
}

/// Reads the id of a stream.
///
/// # Errors
/// `INVALID_REQUEST`.
pub(super) fn stream_id_of(text: &str) -> Result<ExecutionId, Error> {
    text.parse().map_err(|_| Error::InvalidRequest {
        message:
            "the stream's id is not a UUID of version 7; it is the id of the execution, or the one that \
                  `/api/v1/streams/init` answered"
                .into(),
    })
}

impl MessageType {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::StreamStart => "stream_start",
            Self::StreamData => "stream_data",
            Self::StreamEnd => "stream_end",
            Self::StreamError => "stream_error",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// Nothing that is told has a form that JSON has not.
fn json_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// RFC 3339 in UTC, with milliseconds.
pub(super) fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

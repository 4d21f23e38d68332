//! Events as JSON: the same form on every surface that speaks it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{Ended, Event, Failure, Report, ReportKind};
use crate::model::Usage;

impl Event {
    /// The event as JSON; its `kind` tells which it is.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Log(line) => {
                json!({ "kind": "log", "level": line.level.as_str(), "message": line.message })
            }
            Self::StreamStart { stream } => json!({ "kind": "start", "stream": **stream }),
            Self::StreamData { stream, index, chunk } => {
                serde_json::to_value(Chunk::new(stream, *index, chunk)).unwrap_or_default()
            }
            Self::StreamEnd { stream, total_chunks, whole } => {
                json!({ "kind": "end", "stream": **stream, "total_chunks": total_chunks, "whole": whole })
            }
            Self::Metric { name, value } => json!({ "kind": "metric", "name": name, "value": value }),
            Self::Report(report) => report.to_json(),
            Self::Published(data) => json_of(data.get()),
            Self::Closed { whole } => json!({ "kind": "closed", "whole": whole }),
            Self::End(ended) => ended.to_json(),
        }
    }
}

/// The same as [`Event::to_json`], without a value in between for chunks, of which there are many.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::StreamData { stream, index, chunk } => {
                Chunk::new(stream, *index, chunk).serialize(serializer)
            }
            Self::Published(data) => data.serialize(serializer),
            _ => self.to_json().serialize(serializer),
        }
    }
}

/// A chunk, as it is told.
#[derive(Serialize)]
struct Chunk<'a> {
    kind: &'static str,
    stream: &'a str,
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl<'a> Chunk<'a> {
    fn new(stream: &'a str, index: u64, chunk: &'a [u8]) -> Self {
        let text = plain(chunk);
        let base64 = text.is_none().then(|| STANDARD.encode(chunk));
        Self { kind: "chunk", stream, index, text, base64 }
    }
}

impl Report {
    fn to_json(&self) -> Value {
        let mut data = json!({ "kind": self.kind.as_str() });
        let members = [
            ("message", self.message.clone().map(Value::from)),
            ("data", self.data.as_deref().map(json_of)),
            ("correlation_id", self.correlation_id.clone().map(Value::from)),
            ("ts", self.ts.as_deref().map(json_of)),
        ];
        for (key, value) in members {
            put(&mut data, key, value);
        }
        data
    }
}

impl ReportKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Checkpoint, Self::Progress, Self::Heartbeat, Self::Metric];

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its name in lines and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Progress => "progress",
            Self::Heartbeat => "heartbeat",
            Self::Metric => "metric",
        }
    }
}

impl Ended {
    fn to_json(&self) -> Value {
        let mut data = match &self.result {
            Ok(answer) => {
                let mut data = json!({ "kind": "finished", "exit_code": answer.exit_code });
                if self.output_left_out {
                    put(&mut data, "output_left_out", Some(true.into()));
                } else {
                    put_bytes(&mut data, "output", "output_base64", &answer.output);
                }
                data
            }
            Err(failure) => json!({
                "kind": "failed",
                "reason": failure.reason.as_str(),
                "message": failure.message,
                "details": failure.facts(),
            }),
        };
        put(&mut data, "version", Some(self.version.to_string().into()));
        put(&mut data, "metrics", Some(metrics(&self.usage)));
        put(&mut data, "logs_dropped", Some(self.logs_dropped.into()));
        data
    }
}

impl Failure {
    /// The structured facts. A key tells the type of its value, never the text: an agent called `1e3` is no number, and a
    /// guest does not choose what its caller parses.
    #[must_use]
    pub fn facts(&self) -> BTreeMap<&'static str, Value> {
        let fact = |key: &str, text: &str| {
            let is_number = key.starts_with("limit_") || key.ends_with("_ms");
            let is_json = is_number || matches!(key, "problems" | "backtrace");
            let value = if is_json { serde_json::from_str(text).ok() } else { None };
            value.unwrap_or_else(|| Value::from(text))
        };
        self.details.iter().map(|(key, text)| (*key, fact(key, text))).collect()
    }
}

fn metrics(usage: &Usage) -> Value {
    let microseconds = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut metrics = json!({
        "peak_memory_bytes": usage.peak_memory.0,
        "instantiation_us": microseconds(usage.instantiation),
        "execution_us": microseconds(usage.execution),
        "queued_us": microseconds(usage.queued),
    });
    put(&mut metrics, "fuel_consumed", usage.fuel.map(|fuel| fuel.0.into()));
    metrics
}

/// Reads what was JSON before.
fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Puts bytes in as text, where they are text for people, or else in base64.
fn put_bytes(data: &mut Value, as_text: &str, as_base64: &str, bytes: &[u8]) {
    match plain(bytes) {
        Some(text) => put(data, as_text, Some(text.into())),
        None => put(data, as_base64, Some(STANDARD.encode(bytes).into())),
    }
}

fn put(data: &mut Value, key: &str, value: Option<Value>) {
    let members: Option<&mut Map<String, Value>> = data.as_object_mut();
    if let (Some(members), Some(value)) = (members, value) {
        members.insert(key.to_owned(), value);
    }
}

/// The text that bytes are, where they are text for people.
fn plain(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| is_plain(text))
}

/// Text for people, as against bytes that happen to be UTF-8: JSON needs six bytes for each control character.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: &'static [u8]) -> Value {
        Event::StreamData { stream: "s".into(), index: 3, chunk: bytes.into() }.to_json()
    }

    #[test]
    fn chunks_are_text_where_they_can_be_read_and_base64_elsewhere() {
        let text = json!({ "kind": "chunk", "stream": "s", "index": 3, "text": "grüße\n" });
        assert_eq!(chunk("grüße\n".as_bytes()), text);
        assert_eq!(chunk(b"\xff\x00")["base64"], "/wA=");
        for bytes in [&b"text"[..], b"\xff"] {
            let event = Event::StreamData { stream: "s".into(), index: 3, chunk: bytes.into() };
            assert_eq!(serde_json::to_value(&event).unwrap(), event.to_json());
        }
        assert_eq!(chunk(b"\x1b[2J")["base64"], "G1sySg==");
    }

    #[test]
    fn the_type_of_a_fact_does_not_depend_on_its_text() {
        let failure = Failure {
            reason: crate::error::Reason::Trap,
            message: "m".into(),
            details: vec![
                ("trap", "[1]".into()),
                ("limit_fuel", u64::MAX.to_string()),
                ("agent", "1e3".into()),
            ],
            retry_after: None,
        };
        let facts = serde_json::to_value(failure.facts()).unwrap();
        assert_eq!(facts, json!({ "trap": "[1]", "limit_fuel": u64::MAX, "agent": "1e3" }));
    }
}

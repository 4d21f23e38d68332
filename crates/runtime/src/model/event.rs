//! What an execution says while it runs and when it ends.

mod json;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mentat_manifest::AgentVersion;
use serde_json::Value;

pub use json::is_plain;

use super::{Answer, LogLine, Usage};
use crate::error::{Error, Reason};

/// What an event takes of memory besides its texts and bytes, about.
const EVENT_BYTES: usize = 192;

/// The stream of a WASI command's output, as it is written.
pub const STDOUT_STREAM: &str = "stdout";

/// One message about an execution.
#[derive(Clone, Debug)]
pub enum Event {
    /// A line for the log.
    Log(LogLine),
    /// A stream begins.
    StreamStart {
        /// Its name, its own within the execution.
        stream: Arc<str>,
    },
    /// The next chunk of a stream.
    StreamData {
        /// Its name.
        stream: Arc<str>,
        /// The number of the chunk within the stream, from 0.
        index: u64,
        /// The chunk.
        chunk: Bytes,
    },
    /// A stream ends.
    StreamEnd {
        /// Its name.
        stream: Arc<str>,
        /// How many chunks were written.
        total_chunks: u64,
        /// Whether the agent ended it itself; otherwise it was cut off.
        whole: bool,
    },
    /// A value of a metric of the agent's own.
    Metric {
        /// Its name.
        name: String,
        /// The value.
        value: f64,
    },
    /// A line of the agent's output that reports on its work, where its manifest says `events: ndjson`.
    Report(Report),
    /// The end; nothing comes after it.
    End(Arc<Ended>),
}

/// What an agent reports of its work.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What it is about.
    pub kind: ReportKind,
    /// A sentence for people.
    pub message: Option<String>,
    /// Whatever else the agent says.
    pub data: Option<Value>,
    /// What the agent puts together by it.
    pub correlation_id: Option<String>,
    /// When it was, as the agent says.
    pub ts: Option<Value>,
}

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// A part of the work is done.
    Checkpoint,
    /// How far the work is.
    Progress,
    /// The agent is alive.
    Heartbeat,
    /// Something that was measured.
    Metric,
}

/// How an execution ended, for those who followed it.
#[derive(Debug)]
pub struct Ended {
    /// The version that ran.
    pub version: AgentVersion,
    /// The agent's answer, or why there is none.
    pub result: Result<Answer, Failure>,
    /// Whether the output is left out: it is too much to be kept, or not kept any more.
    pub output_left_out: bool,
    /// What it cost.
    pub usage: Usage,
    /// Log lines that went over the limits and were not kept.
    pub logs_dropped: u64,
}

/// Why an execution failed, in the words that its caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A row of the error table.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// Structured facts; of one that is only remembered, none.
    pub details: Vec<(&'static str, String)>,
    /// When to try again, where that makes sense.
    pub retry_after: Option<Duration>,
}

/// An event in its place among those of its execution.
#[derive(Debug)]
pub struct NumberedEvent {
    /// Its number, from 0 without holes.
    pub sequence: u64,
    /// When the host had it.
    pub time: SystemTime,
    /// The event.
    pub event: Event,
}

impl Event {
    /// Bytes of memory that are kept for it, about.
    pub(crate) fn bytes(&self) -> usize {
        EVENT_BYTES
            + match self {
                Self::Log(line) => line.message.len(),
                Self::StreamStart { .. } | Self::StreamEnd { .. } => 0,
                Self::StreamData { chunk, .. } => chunk.len(),
                Self::Metric { name, .. } => name.len(),
                Self::Report(report) => report.bytes(),
                Self::End(ended) => ended.result.as_ref().map_or(0, |answer| answer.output.len()),
            }
    }
}

impl Report {
    fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let value = |value: &Option<Value>| value.as_ref().map_or(0, bytes_of);
        text(&self.message) + text(&self.correlation_id) + value(&self.data) + value(&self.ts)
    }
}

/// Bytes of memory that a value has, about.
fn bytes_of(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(bytes_of).sum(),
            Value::Object(values) => values.iter().map(|(key, value)| key.len() + bytes_of(value)).sum(),
        }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            reason: error.reason(),
            message: error.to_string(),
            details: error.details(),
            retry_after: error.retry_after(),
        }
    }
}

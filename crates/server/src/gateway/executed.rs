//! The JSON bodies of executions that have begun or ended.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mentat_manifest::{AgentVersion, RuntimeKind};
use mentat_runtime::error::Error;
use mentat_runtime::model::{ExecutionId, LogLine, Usage, is_plain};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::bodies::{microseconds, milliseconds};
use crate::dispatch::Executed;
use crate::executions::{ExecutionRecord, ExecutionStatus};

/// An execution whose guest ran to its end. Exactly one of the two outputs is there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExecutedBody {
    execution_id: String,
    version: String,
    /// What executed it: `wasm` or `container`.
    runtime: &'static str,
    /// 0 is success; any other value is the agent's own verdict.
    exit_code: i32,
    /// The output, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// The output in base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_base64: Option<String>,
    metrics: MetricsBody,
    /// The log lines, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<Vec<LogBody>>,
    /// Lines that went over the limits and were not kept.
    logs_dropped: u64,
    /// The receipt, where one was asked for: a DSSE envelope.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Box<RawValue>>,
    /// Why there is none, though one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt_problem: Option<String>,
}

/// An execution that goes on by itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StartedBody {
    execution_id: String,
    version: String,
    /// Where it is followed, as in `/ws/streams/{stream_id}` and `/api/v1/streams/{stream_id}/sse`: its own id.
    stream_id: String,
}

/// What an execution cost.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MetricsBody {
    /// Absent for agents metered by epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel_consumed: Option<u64>,
    /// Largest sum of the linear memories.
    peak_memory_bytes: u64,
    /// From having a place to the first instruction of the entry point.
    instantiation_us: u64,
    /// From there to the end.
    execution_us: u64,
    /// Waiting for a place.
    queued_us: u64,
}

/// A line that the agent logged.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LogBody {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    level: &'static str,
    /// Bounded and escaped.
    message: String,
    /// Milliseconds since 1970.
    timestamp_ms: u64,
}

impl ExecutedBody {
    /// The reply for an execution whose guest ran to its end; else its error.
    pub(super) fn new(executed: Executed, include_logs: bool) -> Result<Self, Error> {
        let Executed { execution_id, version, runtime, outcome, receipt } = executed;
        let answer = outcome.result?;
        let (output, output_base64) = match String::from_utf8(answer.output.into()) {
            Ok(text) if is_plain(&text) => (Some(text), None),
            Ok(text) => (None, Some(STANDARD.encode(text))),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        let (receipt, receipt_problem) = match receipt {
            None => (None, None),
            Some(Ok(receipt)) => (envelope(&receipt), None),
            Some(Err(problem)) => (None, Some(problem)),
        };
        Ok(Self {
            execution_id: execution_id.to_string(),
            version: version.map(|version| version.to_string()).unwrap_or_default(),
            runtime: runtime.map(RuntimeKind::as_str).unwrap_or_default(),
            exit_code: answer.exit_code,
            output,
            output_base64,
            metrics: MetricsBody::new(&outcome.usage),
            logs: include_logs.then(|| outcome.logs.into_iter().map(LogBody::new).collect()),
            logs_dropped: outcome.logs_dropped,
            receipt,
            receipt_problem,
        })
    }
}

impl StartedBody {
    pub(super) fn new(execution_id: ExecutionId, version: &AgentVersion) -> Self {
        let id = execution_id.to_string();
        Self { execution_id: id.clone(), version: version.to_string(), stream_id: id }
    }
}

impl MetricsBody {
    fn new(usage: &Usage) -> Self {
        Self {
            fuel_consumed: usage.fuel.map(|fuel| fuel.0),
            peak_memory_bytes: usage.peak_memory.0,
            instantiation_us: microseconds(usage.instantiation),
            execution_us: microseconds(usage.execution),
            queued_us: microseconds(usage.queued),
        }
    }
}

impl LogBody {
    fn new(line: LogLine) -> Self {
        Self { level: line.level.as_str(), message: line.message, timestamp_ms: milliseconds(line.timestamp) }
    }
}

/// An execution, running or finished.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExecutionBody {
    execution_id: String,
    agent_id: String,
    version: String,
    /// What executes it: `wasm` or `container`.
    runtime: &'static str,
    /// `running`, `finished` or `failed`.
    state: &'static str,
    /// Milliseconds since 1970.
    started_at_ms: u64,
    /// From being asked for to its end; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_us: Option<u64>,
    /// The agent's own verdict, once it has ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    /// What it cost, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<MetricsBody>,
    /// The row of the error table, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_reason: Option<&'static str>,
    /// The sentence that the caller was given, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    /// The receipt, where one was asked for, whether or not the execution failed: a DSSE envelope. Kept for a while;
    /// shortly after the end it may not be there yet.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Box<RawValue>>,
}

impl ExecutionBody {
    pub(super) fn new(record: ExecutionRecord) -> Self {
        let mut body = Self {
            execution_id: record.execution_id.to_string(),
            agent_id: record.agent_id.to_string(),
            version: record.version.to_string(),
            runtime: record.runtime.as_str(),
            state: "running",
            started_at_ms: milliseconds(record.started),
            duration_us: None,
            exit_code: None,
            metrics: None,
            error_reason: None,
            error_message: None,
            receipt: record.receipt.as_deref().and_then(envelope),
        };
        match record.status {
            ExecutionStatus::Running => {}
            ExecutionStatus::Finished { exit_code, usage, duration } => {
                body.state = "finished";
                body.exit_code = Some(exit_code);
                body.metrics = Some(MetricsBody::new(&usage));
                body.duration_us = Some(microseconds(duration));
            }
            ExecutionStatus::Failed { reason, message, usage, duration } => {
                body.state = "failed";
                body.error_reason = Some(reason.as_str());
                body.error_message = Some(message);
                body.metrics = Some(MetricsBody::new(&usage));
                body.duration_us = Some(microseconds(duration));
            }
        }
        body
    }
}

/// A receipt as a part of a reply.
fn envelope(receipt: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(receipt).ok()
}

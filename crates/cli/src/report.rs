//! What is said of an execution, here or on a server: the output alone, or one JSON object with its
//! cost and log.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mentat_runtime::model::{LogLevel, LogLine, Usage};
use serde::Serialize;

use crate::client::ExecutedReport;
use crate::commands::telling::Teller;
use crate::output::{self, ErrorBody, Failure};

/// What came of an execution.
#[derive(Debug)]
pub(crate) struct ExecutionReport {
    pub(crate) execution_id: String,
    /// Id and version; `None` for a bare module, and where the agent was not found.
    pub(crate) agent: Option<String>,
    pub(crate) version: Option<String>,
    /// What a server executed it by; `None` where it was executed here, or nothing was.
    pub(crate) runtime: Option<String>,
    /// Output and exit code, or why there is none.
    pub(crate) result: Result<(Bytes, i32), Failure>,
    /// `None` where nothing ran, or a server did not tell.
    pub(crate) usage: Option<UsageReport>,
    pub(crate) logs: Vec<LogReport>,
    pub(crate) logs_dropped: u64,
}

/// What an execution cost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct UsageReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fuel: Option<u64>,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) queued_us: u64,
    pub(crate) instantiation_us: u64,
    pub(crate) execution_us: u64,
    /// Only where the module had to be compiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compile_us: Option<u64>,
}

/// One line of the log.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LogReport {
    pub(crate) level: LogLevel,
    pub(crate) message: String,
    /// Since 1970, in milliseconds.
    pub(crate) timestamp_ms: u64,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    execution_id: &'a str,
    agent: Option<&'a str>,
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageReport>,
    logs: &'a [LogReport],
    logs_dropped: u64,
}

impl ExecutionReport {
    /// Of an execution on a server, whose events were told by the teller. `version` is the one that was asked for.
    pub(crate) fn of_server(
        execution_id: String,
        agent: Option<String>,
        version: Option<String>,
        result: Result<ExecutedReport, Failure>,
        teller: Teller,
    ) -> Self {
        let (usage, version, logs_dropped) = match &result {
            Ok(executed) => (Some(executed.usage), Some(executed.version.clone()), executed.logs_dropped),
            Err(_) => (None, version, 0),
        };
        let runtime = result.as_ref().ok().map(|executed| executed.runtime.clone());
        let runtime = runtime.filter(|runtime| !runtime.is_empty());
        let result = result.map(|executed| (teller.untold(&executed.output), executed.exit_code));
        Self { execution_id, agent, version, runtime, result, usage, logs: teller.into_logs(), logs_dropped }
    }

    /// Writes the output, or everything as JSON, and tells the exit code. The log has been written
    /// already, where it is not part of the JSON.
    ///
    /// # Errors
    /// When stdout cannot take it.
    pub(crate) fn write(&self, json: bool) -> Result<ExitCode, Failure> {
        if json {
            output::write_json(&self.as_json())?;
        } else if let Ok((output, _)) = &self.result {
            output::write_stdout(output)?;
        }
        if self.logs_dropped > 0 {
            output::write_notice(&format!(
                "{} log lines were over the agent's limits and were not kept",
                self.logs_dropped
            ));
        }
        match &self.result {
            Ok((_, exit_code)) => Ok(guest_exit_code(*exit_code)),
            Err(failure) => {
                if !json {
                    failure.write_text();
                }
                Ok(failure.exit_code())
            }
        }
    }

    fn as_json(&self) -> JsonReport<'_> {
        let answer = self.result.as_ref().ok();
        let text = answer.map(|(output, _)| std::str::from_utf8(output));
        JsonReport {
            execution_id: &self.execution_id,
            agent: self.agent.as_deref(),
            version: self.version.as_deref(),
            runtime: self.runtime.as_deref(),
            output: text.and_then(Result::ok),
            output_base64: match (answer, text) {
                (Some((output, _)), Some(Err(_))) => Some(STANDARD.encode(output)),
                _ => None,
            },
            exit_code: answer.map(|(_, exit_code)| *exit_code),
            error: self.result.as_ref().err().map(Failure::body),
            usage: self.usage,
            logs: &self.logs,
            logs_dropped: self.logs_dropped,
        }
    }
}

impl UsageReport {
    /// Of an execution in this process.
    pub(crate) fn local(usage: &Usage, compile: Option<Duration>) -> Self {
        Self {
            fuel: usage.fuel.map(|fuel| fuel.0),
            peak_memory_bytes: usage.peak_memory.0,
            queued_us: microseconds(usage.queued),
            instantiation_us: microseconds(usage.instantiation),
            execution_us: microseconds(usage.execution),
            compile_us: compile.map(microseconds),
        }
    }
}

impl From<LogLine> for LogReport {
    fn from(line: LogLine) -> Self {
        Self {
            level: line.level,
            message: line.message,
            timestamp_ms: milliseconds_since_epoch(line.timestamp),
        }
    }
}

/// A guest's exit code as a process can have it: modulo 256 as the system does, but failure never
/// becomes success.
fn guest_exit_code(exit_code: i32) -> ExitCode {
    let byte = u8::try_from(exit_code.rem_euclid(256)).unwrap_or(1);
    ExitCode::from(if byte == 0 && exit_code != 0 { 1 } else { byte })
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn milliseconds_since_epoch(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(result: Result<(Bytes, i32), Failure>) -> serde_json::Value {
        let report = ExecutionReport {
            execution_id: "x".into(),
            agent: None,
            version: None,
            runtime: None,
            result,
            usage: None,
            logs: Vec::new(),
            logs_dropped: 0,
        };
        serde_json::to_value(report.as_json()).unwrap()
    }

    #[test]
    fn a_failing_guest_never_looks_successful() {
        for (guest, process) in [(0, 0), (3, 3), (255, 255), (256, 1), (512, 1), (257, 1), (-1, 255)] {
            assert_eq!(guest_exit_code(guest), ExitCode::from(process), "{guest}");
        }
    }

    #[test]
    fn output_that_is_not_text_is_base64() {
        let text = report(Ok((Bytes::from_static(b"hi"), 0)));
        assert_eq!((&text["output"], &text["exit_code"]), (&"hi".into(), &0.into()));
        assert_eq!(text.get("output_base64"), None);
        let binary = report(Ok((Bytes::from_static(b"\xff"), 3)));
        assert_eq!(binary["output_base64"], "/w==");
        assert_eq!(binary.get("output"), None);
    }

    #[test]
    fn an_execution_that_failed_has_an_error_and_no_output() {
        let failed = report(Err(Failure::invalid("no")));
        assert_eq!(failed["error"]["reason"], "INVALID_REQUEST");
        assert_eq!(failed.get("output"), None);
        assert_eq!(failed.get("exit_code"), None);
    }
}

//! Events on the wire, as the runtime's own.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mentat_proto::v1;
use mentat_proto::v1::execute_agent_event::Event as Wire;
use mentat_runtime::events::Delivery;
use mentat_runtime::model::{Event, LogLevel, LogLine, NumberedEvent, Report, ReportKind};

/// What an event of the wire tells.
pub(super) enum Told {
    /// An event, or that some were missed.
    Delivery(Delivery),
    /// The end.
    Response(Box<v1::ExecuteAgentResponse>),
}

/// `None` for an event that a newer server sends and this client does not know.
pub(super) fn told(event: v1::ExecuteAgentEvent) -> Option<Told> {
    let (sequence, time) = (event.sequence, system_time(event.timestamp));
    let event = match event.event? {
        Wire::Response(response) => return Some(Told::Response(Box::new(response))),
        Wire::Missed(v1::Missed { first, last }) => {
            return Some(Told::Delivery(Delivery::Missed { first, last }));
        }
        Wire::Log(line) => Event::Log(log_line(line)),
        Wire::StreamStart(start) => Event::StreamStart { stream: start.stream.into() },
        Wire::StreamData(data) => {
            Event::StreamData { stream: data.stream.into(), index: data.index, chunk: data.chunk }
        }
        Wire::StreamEnd(v1::StreamEnd { stream, total_chunks, whole }) => {
            Event::StreamEnd { stream: stream.into(), total_chunks, whole }
        }
        Wire::Metric(v1::Metric { name, value }) => Event::Metric { name, value },
        Wire::Report(report) => Event::Report(reported(report)?),
    };
    Some(Told::Delivery(Delivery::Event(Arc::new(NumberedEvent { sequence, time, event }))))
}

fn reported(report: v1::Report) -> Option<Report> {
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    Some(Report {
        kind: ReportKind::from_name(&report.kind)?,
        message: said(report.message),
        data: serde_json::from_str(&report.data_json).ok(),
        correlation_id: said(report.correlation_id),
        ts: serde_json::from_str(&report.ts_json).ok(),
    })
}

fn log_line(line: v1::LogLine) -> LogLine {
    let level = match line.level() {
        v1::LogLevel::Error => LogLevel::Error,
        v1::LogLevel::Warn => LogLevel::Warn,
        v1::LogLevel::Info => LogLevel::Info,
        v1::LogLevel::Debug => LogLevel::Debug,
        v1::LogLevel::Trace | v1::LogLevel::Unspecified => LogLevel::Trace,
    };
    LogLine { level, message: line.message, timestamp: system_time(line.timestamp) }
}

fn system_time(timestamp: Option<prost_types::Timestamp>) -> SystemTime {
    let timestamp = timestamp.unwrap_or_default();
    let seconds = u64::try_from(timestamp.seconds).unwrap_or_default();
    let nanoseconds = u32::try_from(timestamp.nanos).unwrap_or_default();
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds)).unwrap_or(UNIX_EPOCH)
}

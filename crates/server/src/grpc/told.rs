//! Events on the wire.

use std::sync::Arc;

use mentat_proto::v1;
use mentat_proto::v1::execute_agent_event::Event as Wire;
use mentat_runtime::events::Delivery;
use mentat_runtime::model::{Ended, Event, ExecutionId, NumberedEvent, Report};
use tonic::Status;

use super::messages::{log_line, metrics, timestamp};
use super::status::failure_status;

/// What a reader was delivered.
///
/// # Errors
/// The status of an execution that failed, which is its end.
pub(super) fn delivered(
    delivery: Delivery,
    execution_id: ExecutionId,
) -> Result<v1::ExecuteAgentEvent, Status> {
    match delivery {
        Delivery::Event(event) => wire(&event, execution_id).map(|told| numbered(told, Some(&event))),
        Delivery::Missed { first, last } => Ok(numbered(Wire::Missed(v1::Missed { first, last }), None)),
    }
}

/// Something that is told, in the place of that event.
pub(super) fn numbered(told: Wire, event: Option<&Arc<NumberedEvent>>) -> v1::ExecuteAgentEvent {
    v1::ExecuteAgentEvent {
        event: Some(told),
        sequence: event.map_or(0, |event| event.sequence),
        timestamp: event.map(|event| timestamp(event.time)),
    }
}

fn wire(event: &NumberedEvent, execution_id: ExecutionId) -> Result<Wire, Status> {
    Ok(match &event.event {
        Event::Log(line) => Wire::Log(log_line(line.clone())),
        Event::StreamStart { stream } => Wire::StreamStart(v1::StreamStart { stream: stream.to_string() }),
        Event::StreamData { stream, index, chunk } => Wire::StreamData(v1::StreamData {
            stream: stream.to_string(),
            index: *index,
            chunk: chunk.clone(),
        }),
        Event::StreamEnd { stream, total_chunks, whole } => Wire::StreamEnd(v1::StreamEnd {
            stream: stream.to_string(),
            total_chunks: *total_chunks,
            whole: *whole,
        }),
        Event::Metric { name, value } => Wire::Metric(v1::Metric { name: name.clone(), value: *value }),
        Event::Report(report) => Wire::Report(reported(report)),
        Event::End(ended) => Wire::Response(response(ended, execution_id)?),
    })
}

fn reported(report: &Report) -> v1::Report {
    v1::Report {
        kind: report.kind.as_str().to_owned(),
        message: report.message.clone().unwrap_or_default(),
        data_json: report.data.as_ref().map(ToString::to_string).unwrap_or_default(),
        correlation_id: report.correlation_id.clone().unwrap_or_default(),
        ts_json: report.ts.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn response(ended: &Ended, execution_id: ExecutionId) -> Result<v1::ExecuteAgentResponse, Status> {
    let answer = ended.result.as_ref().map_err(|failure| failure_status(failure, execution_id))?;
    Ok(v1::ExecuteAgentResponse {
        output: answer.output.clone(),
        exit_code: answer.exit_code,
        metrics: Some(metrics(&ended.usage)),
        execution_id: execution_id.to_string(),
        version: ended.version.to_string(),
        logs_dropped: ended.logs_dropped,
        output_left_out: ended.output_left_out,
        ..v1::ExecuteAgentResponse::default()
    })
}

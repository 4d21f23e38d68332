//! Between the wire's messages and the core's types; no decisions here but what makes a message readable.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mentat_manifest::{AgentId, AgentVersion, ByteCount, Fuel, LimitsRequest, RuntimeKind};
use mentat_proto::v1;
use mentat_runtime::CodeOrigin;
use mentat_runtime::error::Error;
use mentat_runtime::model::{Answer, ExecutionId, LogLevel, LogLine, Outcome, Usage};

use crate::dispatch::{ExecuteRequest, ExecutionState, Narrowing};
use crate::executions::{ExecutionRecord, ExecutionStatus};
use crate::registry::LoadedAgent;
use crate::store::StoredAgent;

/// Reads an agent's id.
pub(super) fn agent_id(text: &str) -> Result<AgentId, Error> {
    text.parse()
        .map_err(|error: mentat_manifest::NameError| Error::InvalidRequest { message: error.to_string() })
}

/// Reads a version that may be left out.
pub(super) fn version(text: &str) -> Result<Option<AgentVersion>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let version = text
        .parse()
        .map_err(|error: mentat_manifest::NameError| Error::InvalidRequest { message: error.to_string() })?;
    Ok(Some(version))
}

/// Reads a request to execute.
pub(super) fn execute_request(request: v1::ExecuteAgentRequest) -> Result<ExecuteRequest, Error> {
    let execution_id = match request.execution_id.as_str() {
        "" => None,
        text => Some(text.parse::<ExecutionId>()?),
    };
    Ok(ExecuteRequest {
        agent_id: agent_id(&request.agent_id)?,
        version: version(&request.version)?,
        input: request.input,
        execution_id,
        manifest: Some(request.manifest).filter(|text| !text.is_empty()),
        narrowing: request.sandbox_config.map(narrowing).transpose()?.unwrap_or_default(),
        receipt: request.receipt,
        events: None,
    })
}

fn narrowing(config: v1::SandboxConfig) -> Result<Narrowing, Error> {
    let said = |value: u64| Some(value).filter(|value| *value > 0);
    let limits = LimitsRequest {
        memory_bytes: said(config.memory_bytes).map(ByteCount),
        fuel: said(config.fuel).map(Fuel),
        timeout: said(config.timeout_ms).map(Duration::from_millis),
        output_bytes: said(config.output_bytes).map(ByteCount),
        ..LimitsRequest::default()
    };
    let capabilities =
        config.capabilities.map(|capabilities| Narrowing::capabilities(&capabilities.allow)).transpose()?;
    Ok(Narrowing { limits, capabilities })
}

/// The answer of an execution that ran to its end.
pub(super) fn execute_response(
    execution_id: ExecutionId,
    (version, runtime): (Option<AgentVersion>, Option<RuntimeKind>),
    answer: Answer,
    usage: &Usage,
    logs: Vec<LogLine>,
    logs_dropped: u64,
    receipt: Option<Result<Bytes, String>>,
) -> v1::ExecuteAgentResponse {
    let (receipt, receipt_problem) = match receipt {
        None => (Bytes::new(), String::new()),
        Some(Ok(receipt)) => (receipt, String::new()),
        Some(Err(problem)) => (Bytes::new(), problem),
    };
    v1::ExecuteAgentResponse {
        output: answer.output,
        exit_code: answer.exit_code,
        metrics: Some(metrics(usage)),
        execution_id: execution_id.to_string(),
        version: version.map(|version| version.to_string()).unwrap_or_default(),
        logs: logs.into_iter().map(log_line).collect(),
        logs_dropped,
        receipt,
        receipt_problem,
        output_left_out: false,
        runtime: runtime.map(RuntimeKind::as_str).unwrap_or_default().to_owned(),
    }
}

/// An execution that goes on by itself.
pub(super) fn started_response(
    execution_id: ExecutionId,
    version: &AgentVersion,
) -> v1::ExecuteAgentResponse {
    v1::ExecuteAgentResponse {
        execution_id: execution_id.to_string(),
        version: version.to_string(),
        ..v1::ExecuteAgentResponse::default()
    }
}

/// The parts of an outcome whose guest ran to its end, or its error.
pub(super) fn split(outcome: Outcome) -> Result<(Answer, Usage, Vec<LogLine>, u64), Error> {
    let Outcome { result, usage, logs, logs_dropped, .. } = outcome;
    result.map(|answer| (answer, usage, logs, logs_dropped))
}

pub(super) fn metrics(usage: &Usage) -> v1::ExecutionMetrics {
    v1::ExecutionMetrics {
        fuel_consumed: usage.fuel.map(|fuel| fuel.0),
        peak_memory_bytes: usage.peak_memory.0,
        instantiation_us: microseconds(usage.instantiation),
        execution_us: microseconds(usage.execution),
        queued_us: microseconds(usage.queued),
    }
}

/// A log line on the wire.
pub(super) fn log_line(line: LogLine) -> v1::LogLine {
    let level = match line.level {
        LogLevel::Error => v1::LogLevel::Error,
        LogLevel::Warn => v1::LogLevel::Warn,
        LogLevel::Info => v1::LogLevel::Info,
        LogLevel::Debug => v1::LogLevel::Debug,
        LogLevel::Trace => v1::LogLevel::Trace,
    };
    v1::LogLine { level: level.into(), message: line.message, timestamp: Some(timestamp(line.timestamp)) }
}

/// An agent that was loaded.
pub(super) fn load_response(agent: &LoadedAgent) -> v1::LoadAgentResponse {
    let (origin, compile_us) = match agent.origin() {
        Some(CodeOrigin::Memory) => (v1::CodeOrigin::Memory, 0),
        Some(CodeOrigin::Disk) => (v1::CodeOrigin::Disk, 0),
        Some(CodeOrigin::Compiled(took)) => (v1::CodeOrigin::Compiled, microseconds(took)),
        None => (v1::CodeOrigin::Image, 0),
    };
    v1::LoadAgentResponse {
        agent_id: agent.stored.id.to_string(),
        version: agent.stored.version.to_string(),
        module_hash: agent.stored.module.to_string(),
        capabilities_required: agent.manifest.capabilities().iter().map(ToString::to_string).collect(),
        code_origin: origin.into(),
        compile_us,
        signature: Some(signature(&agent.stored)),
        image_hash: image_hash(&agent.stored),
    }
}

/// An agent with everything there is to say of it.
pub(super) fn agent(agent: &LoadedAgent, active: bool) -> v1::Agent {
    v1::Agent {
        manifest: agent.stored.manifest.clone(),
        capabilities_required: agent.manifest.capabilities().iter().map(ToString::to_string).collect(),
        module_bytes: agent.module().map_or(0, |module| module.info().size.0),
        shape: agent.shape(),
        ..listed_agent(&agent.stored, active)
    }
}

/// An agent as lists show it.
pub(super) fn listed_agent(agent: &StoredAgent, active: bool) -> v1::Agent {
    v1::Agent {
        agent_id: agent.id.to_string(),
        version: agent.version.to_string(),
        active,
        module_hash: agent.module.to_string(),
        loaded_at: Some(timestamp(agent.loaded_at)),
        signature: Some(signature(agent)),
        image_hash: image_hash(agent),
        ..v1::Agent::default()
    }
}

fn image_hash(agent: &StoredAgent) -> String {
    agent.image.map(|image| image.to_string()).unwrap_or_default()
}

/// Who signed an agent, as was last found.
fn signature(agent: &StoredAgent) -> v1::AgentSignature {
    let standing = agent.standing.last();
    let (refused, message) = standing.told();
    let told = v1::AgentSignature {
        trust: standing.trust().to_string(),
        refused: refused.to_owned(),
        message,
        ..v1::AgentSignature::default()
    };
    let Some(signer) = standing.signer() else { return told };
    v1::AgentSignature {
        signer: signer.name().to_owned(),
        subject: signer.subject.clone(),
        issuer: signer.issuer.clone(),
        fingerprint: signer.fingerprint.clone(),
        algorithm: signer.algorithm.name().to_owned(),
        signed_at: Some(timestamp(signer.signed_at)),
        not_before: Some(timestamp(signer.not_before)),
        not_after: Some(timestamp(signer.not_after)),
        ..told
    }
}

/// An execution, running or finished.
pub(super) fn execution(record: ExecutionRecord) -> v1::Execution {
    let mut execution = v1::Execution {
        execution_id: record.execution_id.to_string(),
        agent_id: record.agent_id.to_string(),
        version: record.version.to_string(),
        started_at: Some(timestamp(record.started)),
        receipt: record.receipt.unwrap_or_default(),
        runtime: record.runtime.as_str().to_owned(),
        ..v1::Execution::default()
    };
    match record.status {
        ExecutionStatus::Running => execution.set_state(v1::ExecutionState::Running),
        ExecutionStatus::Finished { exit_code, usage, duration } => {
            execution.set_state(v1::ExecutionState::Finished);
            execution.exit_code = Some(exit_code);
            execution.metrics = Some(metrics(&usage));
            execution.duration_us = microseconds(duration);
        }
        ExecutionStatus::Failed { reason, message, usage, duration } => {
            execution.set_state(v1::ExecutionState::Failed);
            execution.error_reason = reason.as_str().to_owned();
            execution.error_message = message;
            execution.metrics = Some(metrics(&usage));
            execution.duration_us = microseconds(duration);
        }
    }
    execution
}

/// Reads where executions stand that are asked for; `None` for all.
pub(super) fn state(state: i32) -> Result<Option<ExecutionState>, Error> {
    match v1::ExecutionState::try_from(state) {
        Ok(v1::ExecutionState::Unspecified) => Ok(None),
        Ok(v1::ExecutionState::Running) => Ok(Some(ExecutionState::Running)),
        Ok(v1::ExecutionState::Finished) => Ok(Some(ExecutionState::Finished)),
        Ok(v1::ExecutionState::Failed) => Ok(Some(ExecutionState::Failed)),
        Err(_) => Err(Error::InvalidRequest { message: format!("there is no execution state {state}") }),
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

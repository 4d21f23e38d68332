//! How an execution ended, as it is handed in, and the record that is made of it.
//!
//! Most records are of ended executions, so that they are written as they were handed in, without a [`Record`] between. A
//! test holds both ways to the same bytes.

use std::sync::Arc;

use mentat_manifest::{AgentVersion, Capability, Listed, ModuleDigest};
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::{Event, ExecutionPart, FORMAT, ReceiptPart, Record, SecurityPart, activity};
use crate::model::{ExecutionId, HostCalls};
use crate::security::case::Case;
use crate::security::principal::{Circumstances, Principal};
use crate::security::time::rfc3339_of;

/// Bytes that nearly all records of executions have at most.
const USUAL_BYTES: usize = 1024;

/// How an execution ended, for its record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Largest sum of linear memories, in bytes.
    pub memory_used: u64,
    /// Microseconds of running.
    pub execution_time_us: u64,
    /// Fuel consumed, where it is counted.
    pub fuel: Option<u64>,
    /// `success`, or the reason code of the error.
    pub result: &'static str,
    /// The agent's own verdict, where it ran to its end.
    pub exit_code: Option<i32>,
    /// Whether it was ended for a denial.
    pub violation: bool,
    /// Decisions that were given and refused.
    pub decisions: Decisions,
    /// What its receipt says, where one was asked for.
    pub receipt: Option<Box<ReceiptPart>>,
    /// How often the host was called.
    pub host_calls: HostCalls,
}

/// An execution that has ended: all that its record is made of, in a form that is quickly handed on.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// The agent.
    pub(in crate::security) case: Arc<Case>,
    /// The execution, and when it ended.
    pub(crate) circumstances: Circumstances,
    /// How it ended.
    pub(crate) ending: Ending,
}

/// What the records of all executions of an agent have in common.
#[derive(Debug)]
pub(in crate::security) struct Told {
    agent: Option<Box<RawValue>>,
    requested: Option<Box<RawValue>>,
}

/// How often powers were given and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Given.
    pub granted: u64,
    /// Refused.
    pub denied: u64,
}

/// The same record as [`Record`], made of what it is about.
#[derive(Serialize)]
struct EndedRecord<'a> {
    format: u32,
    sequence: u64,
    timestamp: String,
    event_type: &'static str,
    agent: Option<&'a RawValue>,
    tenant: &'a str,
    caller: &'a str,
    execution: EndedExecution<'a>,
    security: SecurityPart,
}

#[derive(Serialize)]
struct EndedAgent<'a> {
    id: &'a str,
    #[serde(serialize_with = "as_text")]
    version: &'a AgentVersion,
    runtime: &'static str,
    #[serde(serialize_with = "as_text")]
    module: &'a ModuleDigest,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text_of_some")]
    in_place_of: Option<&'a ModuleDigest>,
    attestation: EndedAttestation<'a>,
}

#[derive(Serialize)]
struct EndedAttestation<'a> {
    trust: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<&'a str>,
}

#[derive(Serialize)]
struct EndedExecution<'a> {
    #[serde(serialize_with = "as_text")]
    instance_id: ExecutionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities_requested: Option<&'a RawValue>,
    memory_used: u64,
    execution_time_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel: Option<u64>,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "has_none", serialize_with = "as_counts")]
    host_calls: HostCalls,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a ReceiptPart>,
}

fn as_text<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_text_of_some<S: Serializer>(
    value: &Option<impl std::fmt::Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn has_none(calls: &HostCalls) -> bool {
    calls.iter().next().is_none()
}

fn as_counts<S: Serializer>(calls: &HostCalls, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(calls.iter().map(|(kind, count)| (kind.as_str(), count)))
}

impl Told {
    pub(in crate::security) fn new(principal: &Principal, manifest: &Listed) -> Self {
        let agent = EndedAgent {
            id: principal.agent.as_str(),
            version: &principal.version,
            runtime: principal.runtime.as_str(),
            module: &principal.module,
            in_place_of: principal.in_place_of.as_ref(),
            attestation: EndedAttestation {
                trust: principal.trust.as_str(),
                signer: principal.signer.as_deref(),
            },
        };
        let texts = |all: &[Capability]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let requested = Some(texts(&manifest.capabilities)).filter(|texts| !texts.is_empty());
        // Nothing of a record has a form that JSON has not.
        let (agent, requested) =
            (to_raw_value(&agent).ok(), requested.and_then(|texts| to_raw_value(&texts).ok()));
        Self { agent, requested }
    }
}

impl Ended {
    /// The bytes of its record, whose number is given.
    pub(super) fn bytes(&self, sequence: u64) -> Vec<u8> {
        let Self { case, circumstances, ending } = self;
        let told = case.told();
        let record = EndedRecord {
            format: FORMAT,
            sequence,
            timestamp: rfc3339_of(circumstances.time),
            event_type: "execution",
            agent: told.agent.as_deref(),
            tenant: &case.principal.tenant,
            caller: &circumstances.caller,
            execution: EndedExecution {
                instance_id: circumstances.execution,
                capabilities_requested: told.requested.as_deref(),
                memory_used: ending.memory_used,
                execution_time_us: ending.execution_time_us,
                fuel: ending.fuel,
                result: ending.result,
                exit_code: ending.exit_code,
                host_calls: ending.host_calls,
                receipt: ending.receipt.as_deref(),
            },
            security: self.security(),
        };
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        // Nothing of a record has a form that JSON has not.
        let _ = serde_json::to_writer(&mut bytes, &record);
        bytes
    }

    fn security(&self) -> SecurityPart {
        let Decisions { granted, denied } = self.ending.decisions;
        SecurityPart {
            sandbox_violations: self.ending.violation.into(),
            policy_checks: granted.saturating_add(denied),
            capability_grants: granted,
            capability_denials: denied,
            decision: None,
        }
    }
}

impl From<&Ended> for Record {
    fn from(ended: &Ended) -> Self {
        let Ended { case, circumstances, ending } = ended;
        let execution = ExecutionPart {
            instance_id: circumstances.execution.to_string(),
            capabilities_requested: case.manifest.capabilities.iter().map(ToString::to_string).collect(),
            memory_used: Some(ending.memory_used),
            execution_time_us: Some(ending.execution_time_us),
            fuel: ending.fuel,
            result: Some(ending.result.to_owned()),
            exit_code: ending.exit_code,
            receipt: ending.receipt.as_deref().cloned(),
            host_calls: ending
                .host_calls
                .iter()
                .map(|(kind, count)| (kind.as_str().to_owned(), count))
                .collect(),
        };
        let activity = activity(&case.principal, circumstances, execution, ended.security());
        Self::at(circumstances.time, Event::Execution(activity))
    }
}

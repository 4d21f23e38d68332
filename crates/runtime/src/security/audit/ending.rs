//! How an execution ended, as it is handed in, and the record that is made of it.
//!
//! Most records are of ended executions, so that they are written as they were handed in, without a [`Record`] between. A
//! test holds both ways to the same bytes.

use std::sync::Arc;

use mentat_manifest::{AgentVersion, Listed, ModuleDigest};
use serde::{Serialize, Serializer};

use super::{Event, ExecutionPart, FORMAT, ReceiptPart, Record, SecurityPart, activity};
use crate::model::HostCalls;
use crate::security::case::Case;
use crate::security::principal::{Circumstances, Principal};
use crate::security::time::rfc3339_of;

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

/// What the records of all executions of an agent have in common, as they have it.
#[derive(Debug)]
pub(in crate::security) struct Told {
    /// From the kind of the event to the tenant.
    agent: String,
    /// The capabilities that its manifest asks for, where there are any.
    requested: String,
}

/// How often powers were given and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Given.
    pub granted: u64,
    /// Refused.
    pub denied: u64,
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
        // Nothing of a record has a form that JSON has not.
        let text = |value: serde_json::Result<String>| value.unwrap_or_else(|_| "null".into());
        let (agent, tenant) =
            (text(serde_json::to_string(&agent)), text(serde_json::to_string(&principal.tenant)));
        let agent = format!(r#","event_type":"execution","agent":{agent},"tenant":{tenant},"caller":"#);
        let requested: Vec<String> = manifest.capabilities.iter().map(ToString::to_string).collect();
        let requested = match &*requested {
            [] => String::new(),
            some => format!(r#""capabilities_requested":{},"#, text(serde_json::to_string(some))),
        };
        Self { agent, requested }
    }
}

/// A record that is being written.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    /// What is JSON already.
    fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) -> &mut Self {
        // Nothing of a record has a form that JSON has not, and memory takes all that is written to it.
        let _ = serde_json::to_writer(&mut *self.0, value);
        self
    }

    fn optional(&mut self, name: &str, value: Option<&impl Serialize>) -> &mut Self {
        match value {
            Some(value) => self.raw(name).value(value),
            None => self,
        }
    }

    fn counts(&mut self, calls: &HostCalls) -> &mut Self {
        let mut before = r#","host_calls":{"#;
        for (kind, count) in calls.iter() {
            self.raw(before).raw("\"").raw(kind.as_str()).raw("\":").value(&count);
            before = ",";
        }
        if before == "," { self.raw("}") } else { self }
    }
}

impl Ended {
    /// Hands it in where what the agent does is recorded, if it is.
    pub(in crate::security) fn hand_in(self) {
        let case = Arc::clone(&self.case);
        if let Some(audit) = &case.audit {
            audit.record_ended(self);
        }
    }

    /// Appends the bytes of its record, whose number is given.
    pub(super) fn write(&self, sequence: u64, bytes: &mut Vec<u8>) {
        let Self { case, circumstances, ending } = self;
        let told = case.told();
        let SecurityPart {
            sandbox_violations,
            policy_checks,
            capability_grants,
            capability_denials,
            // Of records that are about one.
            decision: _,
        } = self.security();
        let mut line = Line(bytes);
        line.raw(r#"{"format":"#).value(&FORMAT).raw(r#","sequence":"#).value(&sequence);
        line.raw(r#","timestamp":""#).raw(&rfc3339_of(circumstances.time)).raw("\"");
        line.raw(&told.agent).value(&*circumstances.caller);
        line.raw(r#","execution":{"instance_id":""#);
        circumstances.execution.with_text(|id| {
            line.raw(id);
        });
        line.raw("\",").raw(&told.requested).raw(r#""memory_used":"#).value(&ending.memory_used);
        line.raw(r#","execution_time_us":"#).value(&ending.execution_time_us);
        line.optional(r#","fuel":"#, ending.fuel.as_ref()).raw(r#","result":"#).value(ending.result);
        line.optional(r#","exit_code":"#, ending.exit_code.as_ref()).counts(&ending.host_calls);
        line.optional(r#","receipt":"#, ending.receipt.as_ref());
        line.raw(r#"},"security":{"sandbox_violations":"#).value(&sandbox_violations);
        line.raw(r#","policy_checks":"#).value(&policy_checks);
        line.raw(r#","capability_grants":"#).value(&capability_grants);
        line.raw(r#","capability_denials":"#).value(&capability_denials).raw("}}");
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

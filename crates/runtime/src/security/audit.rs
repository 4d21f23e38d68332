//! The audit log: one record for each decision and each execution, written by one thread into an append-only Merkle log
//! that tools of others can check (RFC 6962 hashes, C2SP tlog-tiles, checkpoints as signed notes).
//!
//! Invariant: what a record holds is enough to make its decision again. No record holds a secret.

#[cfg(test)]
mod attacks;
mod config;
mod ending;
mod entries;
mod fault;
mod files;
mod log;
mod parts;
mod proof;
mod reading;
mod redaction;
mod retention;
mod shortening;
mod tag;
#[cfg(test)]
mod tests;
mod trail;
mod tree;
mod verify;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use mentat_manifest::{Capability, ModuleDigest, RuntimeKind, escape_untrusted};
use serde::{Deserialize, Serialize};

use super::denial::DenialReason;
use super::policy::Permission;
use super::principal::{Circumstances, Principal, Trust};
use super::time::{parse_rfc3339, rfc3339_of};

pub use config::{AuditConfig, OnAuditFailure, SyncMode};
pub(crate) use ending::Ended;
pub(super) use ending::Told;
pub use ending::{Decisions, Ending};
pub use fault::Fault;
pub use log::AuditError;
pub use parts::{
    ArtifactPart, LossPart, MediaAction, MediaPart, RejectionPart, RetentionPart, RetentionReason,
};
pub use proof::ProofError;
pub(crate) use proof::Proven;
pub use reading::{first_kept, read, read_from};
pub use redaction::SensitiveValues;
pub use retention::RetentionConfig;
pub use trail::{Trail, TrailQuestion, TrailSource, TrailStart};
pub use verify::{Evidence, Pruned, Report, check};
pub use writer::Recorder;

/// The form of records that are written now. Version 1, which says no `format`, knew no host calls and no retention.
const FORMAT: u32 = 2;
/// Characters of each text in a record of an agent that was kept out, and of one of an object.
const MAX_TEXT_CHARS: usize = 500;
/// Reasons of decisions that policies were asked for.
const ASKED: [&str; 4] = ["permitted", "forbidden", "not_permitted", "faulty_policy"];

/// One record. Its place in the log is its `sequence`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of its form.
    #[serde(default = "first_format")]
    pub format: u32,
    /// Its number, from 0; the number of its leaf.
    pub sequence: u64,
    /// When it was made: RFC 3339, UTC.
    pub timestamp: String,
    /// What it is about.
    #[serde(flatten)]
    pub event: Event,
}

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event_type", rename_all = "snake_case")]
pub enum Event {
    /// A capability was given or refused.
    CapabilityDecision(Box<Activity>),
    /// An execution ended.
    Execution(Box<Activity>),
    /// The oldest records may be taken out of the folder.
    Retention {
        /// Which, and why.
        retention: RetentionPart,
    },
    /// Compiled code was found that this installation did not write, or not like that. It was not run.
    Artifact {
        /// Which, and what is wrong with it.
        artifact: ArtifactPart,
    },
    /// An agent was kept out for its attestation, or for what one would have to say.
    AttestationRejected {
        /// Which, and why.
        rejection: RejectionPart,
    },
    /// A caller stored or read an object itself, without an agent.
    Media {
        /// Which, and who.
        media: MediaPart,
    },
    /// Records were lost while the log could not be written, which the operator prefers to refusing executions.
    Loss {
        /// What was lost.
        loss: LossPart,
    },
}

/// Something that an agent did, or was kept from doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// The agent.
    pub agent: AgentPart,
    /// On whose behalf.
    pub tenant: String,
    /// The name of the credential that the execution was asked for with.
    pub caller: String,
    /// The execution.
    pub execution: ExecutionPart,
    /// What was asked for and what was decided.
    pub security: SecurityPart,
}

/// The agent of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPart {
    /// The manifest's id.
    pub id: String,
    /// The manifest's version.
    pub version: String,
    /// What executed it.
    pub runtime: String,
    /// `sha256:` and the digest of the module, or of the image.
    pub module: String,
    /// The same of the module in whose place an image was executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place_of: Option<String>,
    /// Who signed it, and how far that is trusted.
    pub attestation: AttestationPart,
}

/// The signature of an agent, as far as it was known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationPart {
    /// `untrusted`, `signed`, `community` or `verified`.
    pub trust: String,
    /// Who signed, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}

/// The execution of a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecutionPart {
    /// The execution's id.
    pub instance_id: String,
    /// What the manifest lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities_requested: Vec<String>,
    /// Largest sum of linear memories, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used: Option<u64>,
    /// Microseconds from the first instruction of the entry point to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_time_us: Option<u64>,
    /// Fuel consumed, where it is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// `success`, or the reason code of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The agent's own verdict, where it ran to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How often it called the host, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host_calls: BTreeMap<String, u64>,
    /// What else its receipt says, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptPart>,
}

/// What a receipt says of an execution beyond the rest of its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptPart {
    /// `sha256:` and the digest of the manifest's text.
    pub manifest: String,
    /// What the agent read.
    pub input: ContentPart,
    /// What it wrote, where it ran to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<ContentPart>,
    /// When it began to wait for a place: RFC 3339, UTC.
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// The powers that it was given, in order.
    pub grants: Vec<GrantPart>,
    /// Further ones, for which there was no room here; each has a record of its own.
    #[serde(default)]
    pub grants_left_out: u64,
}

/// Bytes, as a record knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentPart {
    /// `sha256:` and their digest.
    pub digest: String,
    /// How many they are.
    pub bytes: u64,
}

/// A power that an execution was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantPart {
    /// What was asked for.
    pub capability: String,
    /// The policies that gave it.
    pub policies: Vec<String>,
    /// How often it was given.
    pub count: u64,
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityPart {
    /// Executions that were ended for a denial.
    pub sandbox_violations: u64,
    /// Decisions that were made.
    pub policy_checks: u64,
    /// Of those, given.
    pub capability_grants: u64,
    /// Of those, refused.
    pub capability_denials: u64,
    /// The decision, where the record is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionPart>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionPart {
    /// What was asked for.
    pub capability: String,
    /// Whether it was given.
    pub granted: bool,
    /// `permitted`, or why not.
    pub reason: String,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// The module that was refused it, where that is why the image in its place did not get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_to: Option<String>,
    /// When it was asked, as policies saw it.
    pub time: String,
    /// What the caller left, where it took something away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowing: Option<Vec<String>>,
}

impl DecisionPart {
    /// Whether policies were asked.
    #[must_use]
    pub fn is_of_policies(&self) -> bool {
        ASKED.contains(&self.reason.as_str())
    }
}

/// A question as policies were asked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asked.
    pub principal: Principal,
    /// For what.
    pub capability: Capability,
    /// How it came to the question.
    pub circumstances: Circumstances,
}

impl Record {
    /// The record of one decision.
    #[must_use]
    pub fn of_decision(
        principal: &Principal,
        circumstances: &Circumstances,
        capability: &Capability,
        decided: Result<&Permission, &DenialReason>,
    ) -> Self {
        let (reason, policies, refused_to) = match decided {
            Ok(permission) => ("permitted", permission.policies().to_vec(), None),
            Err(reason) => (reason.as_str(), reason.policies(), reason.refused_to()),
        };
        let granted = decided.is_ok();
        let security = SecurityPart {
            policy_checks: 1,
            capability_grants: granted.into(),
            capability_denials: (!granted).into(),
            decision: Some(DecisionPart {
                capability: capability.to_string(),
                granted,
                reason: reason.to_owned(),
                policies,
                refused_to: refused_to.map(ToString::to_string),
                time: rfc3339_of(circumstances.time),
                narrowing: circumstances.narrowing.as_deref().map(<[String]>::to_vec),
            }),
            ..SecurityPart::default()
        };
        let execution =
            ExecutionPart { instance_id: circumstances.execution.to_string(), ..ExecutionPart::default() };
        Self::new(Event::CapabilityDecision(activity(principal, circumstances, execution, security)))
    }

    /// The record that allows records to be taken out.
    #[must_use]
    pub(super) fn of_retention(retention: RetentionPart) -> Self {
        Self::new(Event::Retention { retention })
    }

    /// The record of compiled code that was refused.
    #[must_use]
    pub(crate) fn of_artifact(module: &ModuleDigest, file: &str, reason: &str) -> Self {
        let artifact =
            ArtifactPart { module: module.to_string(), file: file.to_owned(), reason: reason.to_owned() };
        Self::new(Event::Artifact { artifact })
    }

    /// The record of an agent that was kept out.
    #[must_use]
    pub fn of_rejection(rejection: RejectionPart) -> Self {
        let cut = |text: &str| escape_untrusted(text, MAX_TEXT_CHARS);
        Self::new(Event::AttestationRejected {
            rejection: RejectionPart {
                tenant: cut(&rejection.tenant),
                caller: rejection.caller.as_deref().map(cut),
                reason: cut(&rejection.reason),
                ..rejection
            },
        })
    }

    /// The record of what a caller did with an object.
    #[must_use]
    pub(crate) fn of_media(media: MediaPart) -> Self {
        let cut = |text: &str| escape_untrusted(text, MAX_TEXT_CHARS);
        let (tenant, caller) = (cut(&media.tenant), cut(&media.caller));
        Self::new(Event::Media { media: MediaPart { tenant, caller, ..media } })
    }

    /// The record of records that were lost.
    #[must_use]
    pub(super) fn of_loss(records: u64) -> Self {
        Self::new(Event::Loss { loss: LossPart { records } })
    }

    /// What an agent did, where the record is about one.
    #[must_use]
    pub fn activity(&self) -> Option<&Activity> {
        match &self.event {
            Event::CapabilityDecision(activity) | Event::Execution(activity) => Some(activity),
            Event::Retention { .. }
            | Event::Artifact { .. }
            | Event::AttestationRejected { .. }
            | Event::Media { .. }
            | Event::Loss { .. } => None,
        }
    }

    /// The question that policies answered, to ask it again. `None` where the record is about no decision, or about one
    /// that was made before policies were asked, or of which not everything fits into a record.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        let Activity { agent, tenant, caller, execution, security } = self.activity()?;
        let decision = security.decision.as_ref()?;
        // With less on record than what was left to the execution, policies would answer something else.
        let is_whole = decision.narrowing.iter().flatten().all(|left| left != shortening::LEFT_OUT);
        if !is_whole || !decision.is_of_policies() {
            return None;
        }
        Some(Question {
            principal: Principal {
                agent: agent.id.parse().ok()?,
                version: agent.version.parse().ok()?,
                module: agent.module.parse().ok()?,
                in_place_of: match &agent.in_place_of {
                    Some(module) => Some(module.parse().ok()?),
                    None => None,
                },
                runtime: RuntimeKind::from_name(&agent.runtime)?,
                tenant: tenant.as_str().into(),
                trust: Trust::from_name(&agent.attestation.trust)?,
                signer: agent.attestation.signer.as_deref().map(Into::into),
            },
            capability: decision.capability.parse().ok()?,
            circumstances: Circumstances {
                time: parse_rfc3339(&decision.time)?,
                execution: execution.instance_id.parse().ok()?,
                caller: caller.as_str().into(),
                narrowing: decision.narrowing.clone().map(Into::into),
            },
        })
    }

    fn new(event: Event) -> Self {
        Self::at(SystemTime::now(), event)
    }

    fn at(time: SystemTime, event: Event) -> Self {
        Self { format: FORMAT, sequence: 0, timestamp: rfc3339_of(time), event }
    }
}

fn activity(
    principal: &Principal,
    circumstances: &Circumstances,
    execution: ExecutionPart,
    security: SecurityPart,
) -> Box<Activity> {
    let attestation = AttestationPart {
        trust: principal.trust.to_string(),
        signer: principal.signer.as_deref().map(str::to_owned),
    };
    Box::new(Activity {
        agent: AgentPart {
            id: principal.agent.to_string(),
            version: principal.version.to_string(),
            runtime: principal.runtime.as_str().into(),
            module: principal.module.to_string(),
            in_place_of: principal.in_place_of.map(|module| module.to_string()),
            attestation,
        },
        tenant: Arc::clone(&principal.tenant).to_string(),
        caller: Arc::clone(&circumstances.caller).to_string(),
        execution,
        security,
    })
}

fn first_format() -> u32 {
    1
}

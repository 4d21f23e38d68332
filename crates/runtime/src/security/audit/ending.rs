//! How an execution ended, as it is handed in, and the record that is made of it.

use std::sync::Arc;

use mentat_manifest::Listed;

use super::{Event, ExecutionPart, ReceiptPart, Record, SecurityPart, activity};
use crate::model::HostCalls;
use crate::security::principal::{Circumstances, Principal};

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
    pub(crate) principal: Principal,
    /// The execution, and when it ended.
    pub(crate) circumstances: Circumstances,
    /// What its manifest lists.
    pub(crate) manifest: Option<Arc<Listed>>,
    /// How it ended.
    pub(crate) ending: Ending,
}

/// How often powers were given and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Given.
    pub granted: u64,
    /// Refused.
    pub denied: u64,
}

impl From<&Ended> for Record {
    fn from(Ended { principal, circumstances, manifest, ending }: &Ended) -> Self {
        let requested = manifest.as_ref().map_or(&[][..], |listed| &listed.capabilities);
        let Decisions { granted, denied } = ending.decisions;
        let security = SecurityPart {
            sandbox_violations: ending.violation.into(),
            policy_checks: granted.saturating_add(denied),
            capability_grants: granted,
            capability_denials: denied,
            decision: None,
        };
        let execution = ExecutionPart {
            instance_id: circumstances.execution.to_string(),
            capabilities_requested: requested.iter().map(ToString::to_string).collect(),
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
        Self::at(
            circumstances.time,
            Event::Execution(activity(principal, circumstances, execution, security)),
        )
    }
}

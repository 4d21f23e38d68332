//! Between the core's types and those of what decides and records: what a caller takes away, how an execution ended, what
//! its receipt is made of.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use mentat_manifest::{Attestation, CapabilityKind, Manifest};
use mentat_runtime::error::Error;
use mentat_runtime::model::Outcome;
use mentat_runtime::security::audit::{Decisions, Ending};
use mentat_runtime::security::receipt::{Contents, PendingReceipt, ReceiptRequest};

use super::Narrowing;
use crate::registry::LoadedAgent;

/// Records the end of an execution with all that its receipt says. Inputs and outputs are hashed where nobody's turn is
/// taken by it: they can have hundreds of megabytes. `None` where the service ends meanwhile.
pub(super) async fn record_for_receipt(
    request: ReceiptRequest,
    ending: Ending,
    manifest: String,
    input: Bytes,
    output: Option<Bytes>,
    started: SystemTime,
) -> Option<PendingReceipt> {
    let finished = SystemTime::now();
    let record = move || {
        let (manifest, input, output) = (manifest.as_str(), &*input, output.as_deref());
        request.record_end(ending, &Contents { manifest, input, output, started, finished })
    };
    tokio::task::spawn_blocking(record).await.ok()
}

/// How an execution ended, for the audit log.
pub(super) fn ending(outcome: &Outcome, decisions: &BTreeMap<CapabilityKind, Decisions>) -> Ending {
    let usage = &outcome.usage;
    let (result, exit_code) = match &outcome.result {
        Ok(answer) => ("success", Some(answer.exit_code)),
        Err(error) => (error.reason().as_str(), None),
    };
    let sum = |count: fn(&Decisions) -> u64| decisions.values().map(count).sum();
    Ending {
        memory_used: usage.peak_memory.0,
        execution_time_us: u64::try_from(usage.execution.as_micros()).unwrap_or(u64::MAX),
        fuel: usage.fuel.map(|fuel| fuel.0),
        result,
        exit_code,
        violation: matches!(outcome.result, Err(Error::SecurityViolation { .. })),
        decisions: Decisions {
            granted: sum(|decisions| decisions.granted),
            denied: sum(|decisions| decisions.denied),
        },
        receipt: None,
        host_calls: outcome.host_calls,
    }
}

/// Reads an attestation that comes beside its manifest.
pub(super) fn attestation(text: &str) -> Result<Attestation, Error> {
    Attestation::parse(text)
        .map_err(|problem| Error::InvalidRequest { message: format!("the attestation: {problem}") })
}

/// What the caller takes away, in words of its own and by a manifest of its own.
pub(super) fn narrowing(
    agent: &LoadedAgent,
    manifest: Option<&str>,
    sandbox: Narrowing,
) -> Result<Vec<Narrowing>, Error> {
    let Some(text) = manifest else {
        let is_nothing = sandbox == Narrowing::default();
        return Ok(if is_nothing { Vec::new() } else { vec![sandbox] });
    };
    let manifest = Manifest::parse(text)?;
    if manifest.id != agent.manifest.id {
        return Err(Error::InvalidRequest {
            message: format!(
                "the manifest given for this execution has the id `{}`, the agent's is `{}`",
                manifest.id, agent.manifest.id
            ),
        });
    }
    let by_manifest =
        Narrowing { limits: manifest.limits_request(), capabilities: Some(manifest.capabilities().to_vec()) };
    Ok(vec![sandbox, by_manifest])
}

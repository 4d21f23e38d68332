//! Records that would be too long for the log, made short: first by what manifests and policies can make long, then by
//! whatever is long.
//!
//! Invariant: what comes of it fits, whoever made the record what it is.

use super::entries::MAX_RECORD_BYTES;
use super::{Activity, DecisionPart, Event, Record};

/// Policies that a record names at most where it would be too long otherwise.
const MAX_POLICIES: usize = 16;
/// Bytes of one text where a record would be too long for anything else.
const MAX_TEXT_BYTES: usize = 1024;
/// Bytes that nearly all records have at most.
const USUAL_RECORD_BYTES: usize = 1024;
/// What stands in the place of what is left out.
pub(super) const LEFT_OUT: &str = "(left out: too long for one record)";

/// The bytes of a record, as many as the log takes at most.
pub(super) fn bytes(mut record: Record) -> Vec<u8> {
    let mut bytes = json(&record);
    for shorter in [shorten, reduce] {
        if bytes.len() > MAX_RECORD_BYTES {
            shorter(&mut record);
            bytes = json(&record);
        }
    }
    bytes
}

fn json(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_RECORD_BYTES);
    // Nothing of a record has a form that JSON has not.
    let _ = serde_json::to_writer(&mut bytes, record);
    bytes
}

/// Leaves out what a manifest or policies can make long. What policies saw stays, so that they can be asked again.
fn shorten(record: &mut Record) {
    let (Event::CapabilityDecision(activity) | Event::Execution(activity)) = &mut record.event else {
        return;
    };
    let Activity { execution, security, .. } = activity.as_mut();
    execution.capabilities_requested = vec![LEFT_OUT.into()];
    if let Some(DecisionPart { policies, .. }) = &mut security.decision {
        let more = policies.len().saturating_sub(MAX_POLICIES);
        if more > 0 {
            policies.truncate(MAX_POLICIES);
            policies.push(format!("(and {more} more: too long for one record)"));
        }
    }
}

/// Leaves out whatever is long.
fn reduce(record: &mut Record) {
    let (Event::CapabilityDecision(activity) | Event::Execution(activity)) = &mut record.event else {
        return;
    };
    let cut = |text: &mut String| {
        if text.len() > MAX_TEXT_BYTES {
            *text = LEFT_OUT.into();
        }
    };
    let Activity { agent, tenant, caller, execution, security } = activity.as_mut();
    let attestation = &mut agent.attestation;
    for text in [&mut agent.id, &mut agent.version, &mut agent.module, tenant, caller] {
        cut(text);
    }
    attestation.signer.iter_mut().chain(&mut agent.in_place_of).chain(&mut execution.result).for_each(cut);
    if let Some(receipt) = &mut execution.receipt {
        receipt.grants_left_out = receipt.grants_left_out.saturating_add(receipt.grants.len() as u64);
        receipt.grants.clear();
    }
    if let Some(decision) = &mut security.decision {
        cut(&mut decision.capability);
        decision.policies = vec![LEFT_OUT.into()];
        decision.narrowing.iter_mut().for_each(|narrowing| *narrowing = vec![LEFT_OUT.into()]);
    }
}

//! Audit records as events of OCSF, the Open Cybersecurity Schema Framework (<https://schema.ocsf.io/1.3.0>), for tools
//! that collect them from many sources. A decision is an "API Activity", the end of an execution an "Application
//! Lifecycle", retention and loss an "Event Log Activity", compiled code that was changed or an agent that was kept out a "Detection Finding". The record itself is in `unmapped`.

use chrono::{DateTime, Utc};
use mentat_runtime::security::audit::{
    Activity, ArtifactPart, DecisionPart, Event, LossPart, MediaAction, MediaPart, Record, RejectionPart,
    RetentionPart,
};
use serde_json::{Value, json};

/// The version of the schema. The first that knows all three classes.
const VERSION: &str = "1.3.0";
/// What the schema calls the log, and who writes it.
const PRODUCT: &str = "Mentat Runtime";
const PROVIDER: &str = "mentat";
const LOG: &str = "audit";

/// A class of events, and what happens in it.
#[derive(Clone, Copy)]
struct Class {
    uid: u64,
    name: &'static str,
    category: (u64, &'static str),
    activity: (u64, &'static str),
}

/// How much an event matters.
#[derive(Clone, Copy)]
enum Severity {
    Informational = 1,
    Low = 2,
    High = 4,
}

const APPLICATION: (u64, &str) = (6, "Application Activity");
const SYSTEM: (u64, &str) = (1, "System Activity");
const FINDINGS: (u64, &str) = (2, "Findings");

/// The event of a record.
pub(super) fn event(record: &Record) -> Value {
    let (class, own) = match &record.event {
        Event::CapabilityDecision(activity) => match &activity.security.decision {
            Some(decision) => decided(activity, decision),
            None => ended(record, activity),
        },
        Event::Execution(activity) => ended(record, activity),
        Event::Retention { retention } => retained(retention),
        Event::Artifact { artifact } => refused(artifact),
        Event::AttestationRejected { rejection } => kept_out(rejection),
        Event::Media { media } => reached(media),
        Event::Loss { loss } => lost(*loss),
    };
    let mut event = json!({
        "class_uid": class.uid,
        "class_name": class.name,
        "category_uid": class.category.0,
        "category_name": class.category.1,
        "activity_id": class.activity.0,
        "activity_name": class.activity.1,
        "type_uid": class.uid * 100 + class.activity.0,
        "type_name": format!("{}: {}", class.name, class.activity.1),
        "time": milliseconds(record),
        "metadata": metadata(record),
        "unmapped": record,
    });
    if let (Some(event), Value::Object(own)) = (event.as_object_mut(), own) {
        event.extend(own);
    }
    event
}

/// A capability was given or refused.
fn decided(activity: &Activity, decision: &DecisionPart) -> (Class, Value) {
    let (kind, rest) = decision.capability.split_once(':').unwrap_or((&decision.capability, ""));
    let (operation, what, done) = match (kind, rest.split_once(':')) {
        ("filesystem", Some((mode @ "read", path))) => (format!("{kind}:{mode}"), path, (2, "Read")),
        ("filesystem", Some((mode, path))) => (format!("{kind}:{mode}"), path, (3, "Update")),
        ("env" | "secret", _) => (kind.to_owned(), rest, (2, "Read")),
        _ => (kind.to_owned(), rest, (99, "Other")),
    };
    let class = Class { uid: 6003, name: "API Activity", category: APPLICATION, activity: done };
    let (verdict, severity) =
        if decision.granted { ("allowed", Severity::Informational) } else { ("denied", Severity::Low) };
    let policies: Vec<Value> = match decision.policies.as_slice() {
        [] => vec![json!({ "decision": verdict })],
        several => {
            several.iter().map(|name| json!({ "decision": verdict, "policy": { "name": name } })).collect()
        }
    };
    let agent = &activity.agent;
    let mut own = json!({
        "message": format!("`{}` was {verdict} to `{}`: {}", decision.capability, agent.id, decision.reason),
        "actor": {
            "app_name": agent.id,
            "app_uid": format!("{}@{}", agent.id, agent.version),
            "user": user(activity),
            "authorizations": policies,
        },
        "api": { "operation": operation, "service": { "name": PROVIDER } },
        "resources": [{ "name": what, "type": kind }],
        "src_endpoint": { "svc_name": agent.id, "instance_uid": activity.execution.instance_id },
        "status_code": decision.reason,
    });
    outcome(&mut own, decision.granted, severity);
    (class, own)
}

/// An execution ended.
fn ended(record: &Record, activity: &Activity) -> (Class, Value) {
    let class =
        Class { uid: 6002, name: "Application Lifecycle", category: APPLICATION, activity: (4, "Stop") };
    let (agent, execution) = (&activity.agent, &activity.execution);
    let result = execution.result.as_deref().unwrap_or("unknown");
    let end = milliseconds(record);
    let duration = i64::try_from(execution.execution_time_us.unwrap_or(0) / 1000).unwrap_or(i64::MAX);
    let mut own = json!({
        "message": format!("an execution of `{}` ended: {result}", agent.id),
        "app": {
            "name": agent.id,
            "version": agent.version,
            "uid": agent.module,
            "vendor_name": agent.attestation.signer.as_deref().unwrap_or("unknown"),
        },
        "actor": { "user": user(activity) },
        "start_time": end.saturating_sub(duration),
        "end_time": end,
        "duration": duration,
        "status_code": result,
    });
    let severity = match (activity.security.sandbox_violations, result) {
        (0, "success") => Severity::Informational,
        (0, _) => Severity::Low,
        _ => Severity::High,
    };
    outcome(&mut own, result == "success", severity);
    (class, own)
}

/// Records may be taken out.
fn retained(retention: &RetentionPart) -> (Class, Value) {
    let done = if retention.archived { (4, "Archive") } else { (2, "Delete") };
    let class = Class { uid: 1008, name: "Event Log Activity", category: SYSTEM, activity: done };
    let mut own = json!({
        "message": format!("records before {} may be taken out of the audit log", retention.first_kept),
        "log_name": LOG,
        "log_provider": PROVIDER,
        "actor": { "app_name": PROVIDER },
    });
    outcome(&mut own, true, Severity::Informational);
    (class, own)
}

/// Compiled code was refused.
fn refused(artifact: &ArtifactPart) -> (Class, Value) {
    let class = Class { uid: 2004, name: "Detection Finding", category: FINDINGS, activity: (1, "Create") };
    let mut own = json!({
        "message": format!("compiled code of {} was refused: {}", artifact.module, artifact.reason),
        "finding_info": {
            "title": "compiled code was changed by others",
            "uid": artifact.file,
            "desc": artifact.reason,
        },
        "resources": [{ "type": "file", "name": artifact.file, "uid": artifact.module }],
    });
    outcome(&mut own, false, Severity::High);
    (class, own)
}

/// An agent was kept out.
fn kept_out(rejection: &RejectionPart) -> (Class, Value) {
    let class = Class { uid: 2004, name: "Detection Finding", category: FINDINGS, activity: (1, "Create") };
    let name = format!("{}@{}", rejection.agent, rejection.version);
    let mut own = json!({
        "message": format!("agent `{name}` was refused: {}", rejection.reason),
        "finding_info": {
            "title": "an agent was kept out by its attestation",
            "uid": rejection.code,
            "desc": rejection.reason,
        },
        "actor": { "user": { "name": rejection.caller } },
        "resources": [{ "type": "agent", "name": name, "uid": rejection.module }],
        "status_code": rejection.code,
    });
    outcome(&mut own, false, Severity::High);
    (class, own)
}

/// A caller stored or read an object.
fn reached(media: &MediaPart) -> (Class, Value) {
    let (activity, operation, what) = match media.action {
        MediaAction::Stored => ((1, "Create"), "media:write", "stored"),
        MediaAction::Read => ((2, "Read"), "media:read", "read"),
    };
    let class = Class { uid: 6003, name: "API Activity", category: APPLICATION, activity };
    let mut own = json!({
        "message": format!("`{}` was {what} by `{}`", media.reference, media.caller),
        "actor": { "user": { "name": media.caller } },
        "api": { "operation": operation, "service": { "name": PROVIDER } },
        "resources": [{ "name": media.reference, "type": "media" }],
        "src_endpoint": { "svc_name": media.caller },
    });
    outcome(&mut own, true, Severity::Informational);
    (class, own)
}

/// Records were lost.
fn lost(loss: LossPart) -> (Class, Value) {
    let class = Class { uid: 1008, name: "Event Log Activity", category: SYSTEM, activity: (99, "Other") };
    let mut own = json!({
        "message": format!("{} records were lost while the audit log could not be written", loss.records),
        "log_name": LOG,
        "log_provider": PROVIDER,
        "actor": { "app_name": PROVIDER },
    });
    outcome(&mut own, false, Severity::High);
    (class, own)
}

fn outcome(event: &mut Value, is_success: bool, severity: Severity) {
    let (status_id, status) = if is_success { (1, "Success") } else { (2, "Failure") };
    let name = match severity {
        Severity::Informational => "Informational",
        Severity::Low => "Low",
        Severity::High => "High",
    };
    if let Some(event) = event.as_object_mut() {
        event.insert("status_id".into(), status_id.into());
        event.insert("status".into(), status.into());
        event.insert("severity_id".into(), (severity as u64).into());
        event.insert("severity".into(), name.into());
    }
}

fn user(activity: &Activity) -> Value {
    json!({ "name": activity.caller })
}

fn metadata(record: &Record) -> Value {
    let mut metadata = json!({
        "version": VERSION,
        "product": { "name": PRODUCT, "vendor_name": "Mentat", "version": env!("CARGO_PKG_VERSION") },
        "uid": record.sequence.to_string(),
        "sequence": record.sequence,
        "log_name": LOG,
        "log_provider": PROVIDER,
        "original_time": record.timestamp,
    });
    if let (Some(metadata), Event::Media { media }) = (metadata.as_object_mut(), &record.event) {
        metadata.insert("tenant_uid".into(), media.tenant.clone().into());
    }
    if let (Some(metadata), Some(activity)) = (metadata.as_object_mut(), record.activity()) {
        metadata.insert("correlation_uid".into(), activity.execution.instance_id.clone().into());
        metadata.insert("tenant_uid".into(), activity.tenant.clone().into());
        if matches!(record.event, Event::Execution(_)) {
            // Whose attribute `actor` is in that class.
            metadata.insert("profiles".into(), json!(["host"]));
        }
    }
    metadata
}

fn milliseconds(record: &Record) -> i64 {
    record.timestamp.parse::<DateTime<Utc>>().map_or(0, |time| time.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVITY: &str = r#""agent": { "id": "a.b", "version": "1.0.0", "runtime": "wasm", "module": "sha256:x",
        "attestation": { "trust": "untrusted" } }, "tenant": "acme", "caller": "ci""#;

    fn of(sequence: u64, rest: &str) -> Value {
        let text =
            format!(r#"{{ "sequence": {sequence}, "timestamp": "2026-11-24T09:00:00.042Z", {rest} }}"#);
        event(&serde_json::from_str(&text).unwrap())
    }

    fn decision(capability: &str, granted: bool, policies: &str) -> Value {
        of(
            7,
            &format!(
                r#""event_type": "capability_decision", {ACTIVITY}, "execution": {{ "instance_id": "i" }},
                "security": {{ "sandbox_violations": 0, "policy_checks": 1, "capability_grants": 0, "capability_denials": 1,
                "decision": {{ "capability": "{capability}", "granted": {granted}, "reason": "forbidden",
                "policies": {policies}, "time": "2026-11-24T09:00:00.042Z" }} }}"#
            ),
        )
    }

    fn execution(result: &str, violations: u64) -> Value {
        of(
            8,
            &format!(
                r#""event_type": "execution", {ACTIVITY},
                "execution": {{ "instance_id": "i", "execution_time_us": 2500, "result": "{result}" }},
                "security": {{ "sandbox_violations": {violations}, "policy_checks": 0, "capability_grants": 0,
                "capability_denials": 0 }}"#
            ),
        )
    }

    fn retention(archived: bool) -> Value {
        of(
            9,
            &format!(
                r#""event_type": "retention", "retention": {{ "first_kept": 512, "reason": "age", "limit": 5,
                "archived": {archived} }}"#
            ),
        )
    }

    /// What the schema asks of every event, and of the events of each class.
    #[test]
    fn every_event_has_what_its_class_requires() {
        let events = [
            (decision("filesystem:read:/data", false, r#"["p"]"#), 6003, 2),
            (decision("filesystem:write:/data", true, "[]"), 6003, 3),
            (decision("env:A", true, "[]"), 6003, 2),
            (decision("network:https:a.example", true, "[]"), 6003, 99),
            (execution("success", 0), 6002, 4),
            (retention(true), 1008, 4),
            (retention(false), 1008, 2),
            (of(10, r#""event_type": "loss", "loss": { "records": 3 }"#), 1008, 99),
            (
                of(
                    11,
                    r#""event_type": "attestation_rejected", "rejection": { "agent": "a.b", "version": "1.0.0",
                    "module": "sha256:00", "tenant": "t", "code": "unsigned", "reason": "it is not signed" }"#,
                ),
                2004,
                1,
            ),
        ];
        for (event, class, activity) in events {
            assert_eq!(
                (&event["class_uid"], &event["activity_id"]),
                (&json!(class), &json!(activity)),
                "{event}"
            );
            assert_eq!(event["type_uid"], json!(class * 100 + activity), "{event}");
            assert_eq!(event["category_uid"], json!(class / 1000), "{event}");
            assert_eq!(event["time"], json!(1_795_510_800_042_i64), "{event}");
            for number in ["severity_id", "status_id"] {
                assert!(event[number].is_u64(), "{number}: {event}");
            }
            assert_eq!(event["metadata"]["version"], "1.3.0");
            for name in ["name", "vendor_name", "version"] {
                assert!(event["metadata"]["product"][name].is_string(), "{event}");
            }
            let required: &[&str] = match class {
                6003 => &["actor", "api", "src_endpoint"],
                6002 => &["app"],
                2004 => &["finding_info"],
                _ => &["log_name"],
            };
            for attribute in required {
                assert!(!event[attribute].is_null(), "{attribute}: {event}");
            }
            assert_eq!(event["unmapped"]["sequence"], event["metadata"]["sequence"]);
        }
    }

    #[test]
    fn a_denial_says_who_asked_for_what_and_which_policy_refused_it() {
        let event = decision("filesystem:read:/data/drafts", false, r#"["drafts"]"#);
        let denied = json!([{ "decision": "denied", "policy": { "name": "drafts" } }]);
        assert_eq!(event["actor"]["authorizations"], denied);
        assert_eq!(
            (&event["actor"]["app_name"], &event["actor"]["user"]["name"]),
            (&json!("a.b"), &json!("ci"))
        );
        assert_eq!(event["api"]["operation"], "filesystem:read");
        assert_eq!(event["resources"], json!([{ "name": "/data/drafts", "type": "filesystem" }]));
        assert_eq!((&event["status"], &event["severity"]), (&json!("Failure"), &json!("Low")));
        assert_eq!(event["metadata"]["correlation_uid"], "i");
    }

    #[test]
    fn an_execution_that_was_ended_for_a_violation_stands_out() {
        assert_eq!(execution("success", 0)["severity_id"], 1);
        assert_eq!(execution("TIMEOUT", 0)["severity_id"], 2);
        let event = execution("SECURITY_VIOLATION", 1);
        assert_eq!((&event["severity_id"], &event["status_id"]), (&json!(4), &json!(2)));
        assert_eq!((&event["duration"], &event["end_time"]), (&json!(2), &event["time"]));
    }
}

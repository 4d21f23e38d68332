//! `mentat audit`: the audit log of a server, read where it lies. Trusts nothing in it but the key.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mentat_manifest::ByteCount;
use mentat_runtime::error::Reason;
use mentat_runtime::security::audit::{self, EventType, Record};
use serde::Serialize;

use crate::args::{
    AuditEvent, AuditFilter, AuditQueryArguments, AuditTailArguments, AuditVerb, AuditVerifyArguments,
};
use crate::files;
use crate::output::{self, Failure};

/// Bytes of a checkpoint at most; they have some hundred.
const MAX_CHECKPOINT: ByteCount = ByteCount(64 << 10);
/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct VerifyReply {
    valid: bool,
    records: u64,
    signed: u64,
    root: String,
    torn: bool,
    faults: Vec<String>,
}

pub(crate) fn run(verb: &AuditVerb) -> Result<ExitCode, Failure> {
    match verb {
        AuditVerb::Verify(arguments) => verify(arguments),
        AuditVerb::Query(arguments) => query(arguments),
        AuditVerb::Tail(arguments) => tail(arguments),
    }
}

fn verify(arguments: &AuditVerifyArguments) -> Result<ExitCode, Failure> {
    check_folder(&arguments.folder)?;
    let earlier = match &arguments.checkpoint {
        Some(path) => Some(files::read(path, "checkpoint", MAX_CHECKPOINT)?),
        None => None,
    };
    let report = audit::check(&arguments.folder, earlier.as_deref()).map_err(failed)?;
    let valid = report.faults.is_empty();
    let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    if arguments.json.json {
        let audit::Report { records, signed, root, torn, .. } = report;
        output::write_json(&VerifyReply { valid, records, signed, root, torn, faults })?;
    } else {
        for fault in &faults {
            output::write_stderr(&format!("{fault}\n"));
        }
        if report.torn {
            output::write_stderr(
                "the last record was not written whole, as a crash leaves it; it is left out\n",
            );
        }
        if valid {
            let open = report.records.saturating_sub(report.signed);
            let line = format!(
                "{} records, of which {} are signed and {open} are not yet\n",
                report.records, report.signed
            );
            output::write_stdout(line.as_bytes())?;
        }
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(Reason::SecurityViolation.exit_code()) })
}

fn query(arguments: &AuditQueryArguments) -> Result<ExitCode, Failure> {
    check_folder(&arguments.folder)?;
    for record in audit::read(&arguments.folder).map_err(failed)? {
        let record = record.map_err(failed)?;
        if matches(&arguments.filter, &record) {
            print(&record)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tail(arguments: &AuditTailArguments) -> Result<ExitCode, Failure> {
    check_folder(&arguments.folder)?;
    let mut last = std::collections::VecDeque::new();
    let mut next = 0;
    for record in audit::read(&arguments.folder).map_err(failed)? {
        let record = record.map_err(failed)?;
        next = record.sequence + 1;
        if matches(&arguments.filter, &record) {
            last.push_back(record);
            if last.len() > arguments.lines {
                last.pop_front();
            }
        }
    }
    for record in &last {
        print(record)?;
    }
    if arguments.follow { follow(arguments, next) } else { Ok(ExitCode::SUCCESS) }
}

/// Prints records as they come, until somebody ends it or stops reading.
fn follow(arguments: &AuditTailArguments, mut next: u64) -> Result<ExitCode, Failure> {
    loop {
        std::thread::sleep(LOOK_EVERY);
        // A tile may have been moved under our eyes; the next look finds it.
        let Ok(records) = audit::read_from(&arguments.folder, next) else { continue };
        for record in records.map_while(Result::ok) {
            next = record.sequence + 1;
            if matches(&arguments.filter, &record) {
                print(&record)?;
            }
        }
    }
}

fn print(record: &Record) -> Result<(), Failure> {
    output::write_json(record)
}

fn matches(filter: &AuditFilter, record: &Record) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    let event = match record.event_type {
        EventType::CapabilityDecision => AuditEvent::Decision,
        EventType::Execution => AuditEvent::Execution,
    };
    let time = record.timestamp.parse::<DateTime<Utc>>().ok();
    is(&filter.agent, &record.agent.id)
        && is(&filter.execution, &record.execution.instance_id)
        && is(&filter.tenant, &record.tenant)
        && filter.event.is_none_or(|wanted| wanted == event)
        && (!filter.denied || record.security.capability_denials > 0)
        && filter.since.is_none_or(|since| time.is_some_and(|time| time >= since))
        && filter.until.is_none_or(|until| time.is_some_and(|time| time < until))
}

pub(super) fn check_folder(folder: &Path) -> Result<(), Failure> {
    if folder.join("key.pub").is_file() {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "`{}` is no audit log: it has no `key.pub`; a server's lies in `audit` in its data directory",
        folder.display()
    )))
}

#[expect(clippy::needless_pass_by_value, reason = "to be passed to `map_err` as it is")]
pub(super) fn failed(error: audit::AuditError) -> Failure {
    Failure::invalid(error.to_string())
}

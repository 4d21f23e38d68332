//! `mentat audit`: the audit log of a server, read where it lies. Trusts nothing in it but the key.

mod ocsf;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mentat_manifest::ByteCount;
use mentat_runtime::error::Reason;
use mentat_runtime::security::audit::{
    self, Event, Evidence, Pruned, Record, RetentionPart, RetentionReason,
};
use serde::Serialize;

use crate::args::{
    ArchiveArgument, AuditEvent, AuditFilter, AuditQueryArguments, AuditTailArguments, AuditVerb,
    AuditVerifyArguments, RecordFormat,
};
use crate::files;
use crate::output::{self, Failure};

/// Bytes of a checkpoint or a public key at most; they have some hundred.
const MAX_NOTE: ByteCount = ByteCount(64 << 10);
/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct VerifyReply {
    valid: bool,
    records: u64,
    signed: u64,
    root: String,
    torn: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pruned: Option<PrunedReply>,
    faults: Vec<String>,
}

#[derive(Serialize)]
struct PrunedReply {
    first: u64,
    last: u64,
    /// The record that allows it.
    record: u64,
    time: String,
    reason: RetentionReason,
    archived: bool,
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
    let read = |path: &Option<std::path::PathBuf>, what: &str| match path {
        Some(path) => files::read(path, what, MAX_NOTE).map(Some),
        None => Ok(None),
    };
    let (checkpoint, key) = (read(&arguments.checkpoint, "checkpoint")?, read(&arguments.key, "public key")?);
    let evidence = Evidence {
        key: key.as_deref(),
        checkpoint: checkpoint.as_deref(),
        archive: arguments.archive.archive.as_deref(),
    };
    let report = audit::check(&arguments.folder, &evidence).map_err(failed)?;
    let valid = report.faults.is_empty();
    let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    if arguments.json.json {
        let audit::Report { records, signed, root, torn, pruned, .. } = report;
        let pruned = pruned.map(|pruned| PrunedReply {
            first: pruned.first,
            last: pruned.last,
            record: pruned.by,
            time: pruned.at,
            reason: pruned.retention.reason,
            archived: pruned.retention.archived,
        });
        output::write_json(&VerifyReply { valid, records, signed, root, torn, pruned, faults })?;
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
            let gone = report.pruned.as_ref().map_or(0, |pruned| pruned.last - pruned.first + 1);
            let signed = report.signed.saturating_sub(gone);
            let open = report.records.saturating_sub(signed);
            let mut text =
                format!("{} records, of which {signed} are signed and {open} are not yet\n", report.records);
            text.extend(report.pruned.as_ref().map(pruned));
            output::write_stdout(text.as_bytes())?;
        }
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(Reason::SecurityViolation.exit_code()) })
}

/// What is said of records that are gone as they should be.
fn pruned(pruned: &Pruned) -> String {
    let Pruned { first, last, by, at, retention: RetentionPart { reason, limit, archived, .. } } = pruned;
    let why = match reason {
        RetentionReason::Age => format!("older than {limit} seconds"),
        RetentionReason::Size => format!("all records together over {limit} bytes"),
    };
    let what = if *archived { "archived" } else { "deleted" };
    format!("records {first} to {last} were {what} by retention, as record {by} of {at} says: {why}\n")
}

fn query(arguments: &AuditQueryArguments) -> Result<ExitCode, Failure> {
    for record in records(&arguments.folder, &arguments.archive)? {
        let record = record?;
        if matches(&arguments.filter, &record) {
            print(&record, arguments.filter.format)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The records of a log in order. Of those that are not there, the user is told.
pub(super) fn records(
    folder: &Path,
    archive: &ArchiveArgument,
) -> Result<impl Iterator<Item = Result<Record, Failure>>, Failure> {
    check_folder(folder)?;
    let records = audit::read_from(folder, archive.archive.as_deref(), 0).map_err(failed)?;
    let mut next = 0;
    Ok(records.map(move |record| {
        let record = record.map_err(failed)?;
        if record.sequence > next {
            let last = record.sequence - 1;
            let advice =
                "`--archive` reads an archive, `mentat audit verify` says whether retention took them";
            output::write_stderr(&format!("records {next} to {last} are not in the folder; {advice}\n"));
        }
        next = record.sequence + 1;
        Ok(record)
    }))
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
        print(record, arguments.filter.format)?;
    }
    if arguments.follow { follow(arguments, next) } else { Ok(ExitCode::SUCCESS) }
}

/// Prints records as they come, until somebody ends it or stops reading.
fn follow(arguments: &AuditTailArguments, mut next: u64) -> Result<ExitCode, Failure> {
    loop {
        std::thread::sleep(LOOK_EVERY);
        // A tile may have been moved under our eyes; the next look finds it.
        let Ok(records) = audit::read_from(&arguments.folder, None, next) else { continue };
        for record in records.map_while(Result::ok) {
            next = record.sequence + 1;
            if matches(&arguments.filter, &record) {
                print(&record, arguments.filter.format)?;
            }
        }
    }
}

fn print(record: &Record, format: RecordFormat) -> Result<(), Failure> {
    match format {
        RecordFormat::Json => output::write_json(record),
        RecordFormat::Ocsf => output::write_json(&ocsf::event(record)),
    }
}

fn matches(filter: &AuditFilter, record: &Record) -> bool {
    let event = match &record.event {
        Event::CapabilityDecision(_) => AuditEvent::Decision,
        Event::Execution(_) => AuditEvent::Execution,
        Event::Retention { .. } => AuditEvent::Retention,
        Event::Artifact { .. } => AuditEvent::Artifact,
        Event::AttestationRejected { .. } => AuditEvent::Attestation,
        Event::Media { .. } => AuditEvent::Media,
        Event::Loss { .. } => AuditEvent::Loss,
    };
    let rejection = match &record.event {
        Event::AttestationRejected { rejection } => Some(rejection),
        _ => None,
    };
    let media = match &record.event {
        Event::Media { media } => Some(media.tenant.as_str()),
        _ => None,
    };
    let activity = record.activity();
    let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
    let time = record.timestamp.parse::<DateTime<Utc>>().ok();
    let agent = activity.map(|activity| activity.agent.id.as_str());
    let tenant = activity.map(|activity| activity.tenant.as_str());
    is(&filter.agent, agent.or(rejection.map(|rejection| rejection.agent.as_str())))
        && is(&filter.execution, activity.map(|activity| activity.execution.instance_id.as_str()))
        && is(&filter.tenant, tenant.or(rejection.map(|rejection| rejection.tenant.as_str())).or(media))
        && filter.event.is_none_or(|wanted| wanted == event)
        && (!filter.denied || activity.is_some_and(|activity| activity.security.capability_denials > 0))
        && filter.since.is_none_or(|since| time.is_some_and(|time| time >= since))
        && filter.until.is_none_or(|until| time.is_some_and(|time| time < until))
}

fn check_folder(folder: &Path) -> Result<(), Failure> {
    if ["key.pub", "checkpoint", "tile", "pending"].iter().any(|name| folder.join(name).exists()) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "`{}` is no audit log: it has neither `key.pub` nor anything else of one; a server's lies in `audit` in its data directory",
        folder.display()
    )))
}

#[expect(clippy::needless_pass_by_value, reason = "to be passed to `map_err` as it is")]
fn failed(error: audit::AuditError) -> Failure {
    Failure::invalid(error.to_string())
}

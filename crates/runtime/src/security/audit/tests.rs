//! The log as a whole: what is recorded is found, over openings and crashes; two cannot write it.

mod own;
mod retention;
mod trail;

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant, UNIX_EPOCH};

use mentat_manifest::{Limits, Listed, ModuleDigest, RuntimeKind};
use serde_json::Value;

use super::entries::Entries;
use super::tag::Tagger;
use super::*;
use crate::model::{ExecutionId, HostCallKind, HostCalls};
use crate::security::case::Case;
use crate::security::cedar::Policies;

pub(super) fn config(folder: &Path) -> AuditConfig {
    AuditConfig {
        folder: folder.into(),
        origin: "test.log".into(),
        sync: SyncMode::Never,
        on_failure: OnAuditFailure::Refuse,
        checkpoint_every: Duration::from_millis(5),
        retention: RetentionConfig::default(),
        sensitive: SensitiveValues::default(),
    }
}

fn principal() -> Principal {
    Principal {
        agent: "a.b".parse().unwrap(),
        version: "1.2.3-beta.1".parse().unwrap(),
        module: ModuleDigest::of(b"module"),
        in_place_of: None,
        runtime: RuntimeKind::Wasm,
        tenant: "acme".into(),
        trust: Trust::Community,
        signer: Some("CN=Somebody".into()),
    }
}

fn circumstances(caller: &str) -> Circumstances {
    Circumstances {
        time: UNIX_EPOCH + Duration::from_millis(1_795_510_800_042),
        execution: ExecutionId::new(),
        caller: caller.into(),
        narrowing: Some(["env:A".to_owned()].as_slice().into()),
    }
}

fn ended(caller: &str, ending: Ending) -> Record {
    let circumstances = Circumstances { time: SystemTime::now(), ..circumstances(caller) };
    Record::from(&Ended { case: case(principal(), Listed::default()), circumstances, ending })
}

/// Read once: tests write tens of thousands of records.
static POLICIES: LazyLock<Arc<Policies>> = LazyLock::new(|| Arc::new(Policies::parse(&[]).unwrap()));

fn case(principal: Principal, listed: Listed) -> Arc<Case> {
    Arc::new(Case::new(Arc::clone(&POLICIES), principal, Arc::new(listed), Limits::DEFAULT))
}

/// Records as they are handed to the log.
pub(super) fn entries(records: impl IntoIterator<Item = Vec<u8>>) -> Entries {
    let mut entries = Entries::default();
    assert!(records.into_iter().all(|record| entries.push(&record)));
    entries
}

pub(super) fn record(caller: &str) -> Record {
    ended(caller, Ending::default())
}

/// Writes so many records, signed about every hundred.
pub(super) fn write(folder: &Path, count: usize) {
    let recorder = Recorder::open(&config(folder)).unwrap();
    for number in 0..count {
        recorder.record(record(&format!("caller-{number}")));
        if number % 100 == 0 {
            std::thread::sleep(Duration::from_millis(6));
        }
    }
    recorder.close();
}

pub(super) fn verify(folder: &Path) -> Report {
    check(folder, &Evidence::default()).unwrap()
}

/// A log as a machine that stops now would leave it.
pub(super) fn copy(from: &Path) -> tempfile::TempDir {
    fn copy_into(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy_into(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy_into(from, to.path());
    to
}

/// Puts records among those that wait for the tree, as the server would have.
pub(super) fn wait(folder: &Path, records: &[Record]) {
    let tagger = Tagger::new(&std::fs::read_to_string(folder.join("key")).unwrap());
    let mut text = Vec::new();
    for record in records {
        let record = serde_json::to_vec(record).unwrap();
        tagger.write(&mut text, &record, &tlog_tiles::record_hash(&record));
    }
    std::fs::write(folder.join("pending"), text).unwrap();
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what} did not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn numbers_from(folder: &Path, from: u64) -> Vec<u64> {
    read_from(folder, None, from).unwrap().map(|record| record.unwrap().sequence).collect()
}

fn numbers(folder: &Path, archive: Option<&Path>) -> Vec<u64> {
    read_from(folder, archive, 0).unwrap().map(|record| record.unwrap().sequence).collect()
}

#[test]
fn a_decision_can_be_made_again_from_its_record_alone() {
    let question = Question {
        principal: principal(),
        capability: "network:https:*.example.com:8443".parse().unwrap(),
        circumstances: circumstances("ci"),
    };
    let Question { principal, capability, circumstances } = &question;
    let decided = |reason: &DenialReason| {
        let record = Record::of_decision(principal, circumstances, capability, Err(reason));
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.starts_with(r#"{"format":2,"sequence":0,"timestamp":""#), "{text}");
        serde_json::from_str::<Record>(&text).unwrap().question()
    };
    assert_eq!(decided(&DenialReason::Forbidden(vec!["p".into()], String::new())), Some(question.clone()));
    assert_eq!(decided(&DenialReason::NotPermitted(String::new())), Some(question.clone()));
    assert_eq!(decided(&DenialReason::NotInManifest("a.b".into())), None);
}

#[test]
fn a_record_says_in_whose_place_an_image_was_executed_and_which_of_them_was_refused() {
    let module = ModuleDigest::of(b"replaced");
    let principal = Principal { in_place_of: Some(module), runtime: RuntimeKind::Container, ..principal() };
    let (circumstances, capability) = (circumstances("ci"), "env:A".parse().unwrap());
    let forbidden = DenialReason::Forbidden(vec!["p".into()], String::new());
    let to_module = DenialReason::InPlaceOf(module, Box::new(forbidden.clone()));
    for (reason, refused_to) in [(forbidden, Value::Null), (to_module, module.to_string().into())] {
        let record = Record::of_decision(&principal, &circumstances, &capability, Err(&reason));
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(json["agent"]["in_place_of"], module.to_string());
        let decision = &json["security"]["decision"];
        assert_eq!(
            (&decision["reason"], &decision["policies"][0], &decision["refused_to"]),
            (&"forbidden".into(), &"p".into(), &refused_to)
        );
        assert_eq!(record.question().unwrap().principal, principal);
        // What cannot be read is not taken for nothing.
        let text = serde_json::to_string(&record).unwrap().replace(&module.to_string(), "sha256:x");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap().question(), None);
    }
}

#[test]
fn an_ended_execution_is_written_as_its_record_is() {
    let listed = Listed {
        capabilities: ["env:A", "filesystem:read:/a \"b\""].map(|text| text.parse().unwrap()).to_vec(),
        ..Listed::default()
    };
    let content = |text: &str| ContentPart { digest: text.into(), bytes: 7 };
    let receipt = ReceiptPart {
        manifest: "sha256:m".into(),
        input: content("sha256:i"),
        output: Some(content("sha256:o")),
        started: "s".into(),
        finished: "f".into(),
        grants: vec![GrantPart { capability: "env:A".into(), policies: vec!["p".into()], count: 2 }],
        grants_left_out: 1,
    };
    let full = Ending {
        memory_used: 1,
        execution_time_us: u64::MAX,
        fuel: Some(3),
        result: "success",
        exit_code: Some(-4),
        violation: true,
        decisions: Decisions { granted: u64::MAX, denied: 1 },
        receipt: Some(Box::new(receipt)),
        host_calls: HostCallKind::ALL.into_iter().fold(HostCalls::default(), |mut calls, kind| {
            calls.count(kind);
            calls
        }),
    };
    let unsigned =
        Principal { signer: None, in_place_of: Some(ModuleDigest::of(b"replaced")), ..principal() };
    for (principal, listed, ending) in [
        (principal(), listed, full),
        (unsigned, Listed::default(), Ending { result: "TRAP", ..Ending::default() }),
    ] {
        let circumstances = circumstances("c\n\u{1F600}");
        let ended = Ended { case: case(principal, listed), circumstances, ending };
        let record = Record { sequence: 42, ..Record::from(&ended) };
        let mut written = Vec::new();
        ended.write(42, &mut written);
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written, serde_json::to_string(&record).unwrap());
        assert_eq!(serde_json::from_str::<Record>(&written).unwrap(), record);
    }
}

#[test]
fn records_of_the_first_format_are_understood() {
    let text = r#"{"sequence":7,"timestamp":"2026-11-24T09:00:00.042Z","event_type":"capability_decision",
        "agent":{"id":"a.b","version":"1.0.0","runtime":"wasm","module":"sha256:x","attestation":{"trust":"untrusted"}},
        "tenant":"default","caller":"local","execution":{"instance_id":"01890a5d-ac96-774b-bcce-b302099a8057"},
        "security":{"sandbox_violations":0,"policy_checks":1,"capability_grants":0,"capability_denials":1,
        "decision":{"capability":"env:A","granted":false,"reason":"forbidden","policies":["p"],
        "time":"2026-11-24T09:00:00.042Z"}}}"#;
    let record: Record = serde_json::from_str(text).unwrap();
    assert_eq!((record.format, record.sequence), (1, 7));
    let activity = record.activity().unwrap();
    assert_eq!(activity.security.decision.as_ref().unwrap().capability, "env:A");
    assert_eq!(activity.agent.in_place_of, None);
    assert!(matches!(record.event, Event::CapabilityDecision(_)));
}

#[test]
fn what_is_recorded_is_found_in_order_over_many_openings() {
    let folder = tempfile::tempdir().unwrap();
    for count in [0, 1, 255, 1, 300, 600] {
        write(folder.path(), count);
    }
    let report = verify(folder.path());
    assert_eq!((report.records, report.signed, report.faults.as_slice()), (1157, 1157, &[][..]));
    let records: Vec<Record> = read(folder.path()).unwrap().map(Result::unwrap).collect();
    assert!(records.iter().map(|record| record.sequence).eq(0..1157));
    assert_eq!(records[1156].activity().unwrap().caller, "caller-599");
}

#[test]
fn host_calls_stand_in_the_record_of_an_execution() {
    let mut ending = Ending::default();
    for kind in [HostCallKind::Log, HostCallKind::WasiFiles, HostCallKind::Log] {
        ending.host_calls.count(kind);
    }
    let record = ended("ci", ending);
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(json["execution"]["host_calls"], serde_json::json!({ "log": 2, "wasi_files": 1 }));
}

#[test]
fn two_cannot_write_one_log_and_others_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 3);
    let first = Recorder::open(&config(folder.path())).unwrap();
    // Whatever is taken out of the folder and put back, the lock stays.
    let checkpoint = folder.path().join("checkpoint");
    let text = std::fs::read(&checkpoint).unwrap();
    std::fs::remove_file(&checkpoint).unwrap();
    std::fs::write(&checkpoint, text).unwrap();
    let refused = Recorder::open(&config(folder.path())).unwrap_err().to_string();
    let expected = format!(
        "audit log: `{}` is written by another server; stop that one, or give this one a folder of its own as `audit.dir`",
        folder.path().display()
    );
    assert_eq!(refused, expected);
    assert_eq!(verify(folder.path()).records, 3);
    assert_eq!(numbers(folder.path(), None), [0, 1, 2]);
    first.close();
    Recorder::open(&config(folder.path())).unwrap().close();
}

#[test]
fn what_was_pending_when_the_machine_stopped_is_taken_up_and_a_torn_record_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let slow = AuditConfig { checkpoint_every: Duration::from_secs(3600), ..config(folder.path()) };
    let recorder = Recorder::open(&slow).unwrap();
    for number in 0..10 {
        recorder.record(record(&number.to_string()));
    }
    let pending = folder.path().join("pending");
    until("the records are written", || {
        std::fs::read_to_string(&pending).unwrap().matches('\n').count() == 10
    });
    let stopped = copy(folder.path());
    recorder.close();
    let pending = std::fs::OpenOptions::new().write(true).open(stopped.path().join("pending")).unwrap();
    pending.set_len(pending.metadata().unwrap().len() - 5).unwrap();
    // It may have been about to make the first tiles.
    std::fs::create_dir_all(stopped.path().join("tile/entries")).unwrap();
    let report = verify(stopped.path());
    assert_eq!((report.records, report.signed, report.torn), (9, 0, true));
    write(stopped.path(), 1);
    let report = verify(stopped.path());
    assert_eq!((report.records, report.signed, report.torn, report.faults), (10, 10, false, vec![]));
}

#[test]
fn a_reader_finds_what_a_server_moves_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 1);
    let recorder = Recorder::open(&config(folder.path())).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..1500 {
                recorder.record(record(&number.to_string()));
                std::thread::sleep(Duration::from_micros(300));
            }
            recorder.close();
        });
        let mut seen = 0;
        while seen < 1501 {
            let found = numbers(folder.path(), None);
            assert!(
                found.len() as u64 >= seen && found.iter().copied().eq(0..found.len() as u64),
                "{seen}: {found:?}"
            );
            seen = found.len() as u64;
            assert_eq!(verify(folder.path()).faults, []);
        }
    });
}

#[test]
fn a_record_that_would_be_too_long_is_made_short_and_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(&config(folder.path())).unwrap();
    let capability = "env:A".parse().unwrap();
    let long = |number: usize| format!("{number:0>512}");
    let refused = DenialReason::Forbidden((0..200).map(long).collect(), String::new());
    recorder.record(Record::of_decision(&principal(), &circumstances("ci"), &capability, Err(&refused)));
    let caller = "c".repeat(70_000);
    recorder.record(Record::of_decision(&principal(), &circumstances(&caller), &capability, Err(&refused)));
    recorder.close();
    write(folder.path(), 1);
    let report = verify(folder.path());
    assert_eq!((report.faults, report.signed), (vec![], 3));
    let records: Vec<Record> = read(folder.path()).unwrap().map(Result::unwrap).collect();
    let policies = |record: &Record| {
        record.activity().and_then(|activity| activity.security.decision.clone()).unwrap().policies
    };
    let told = policies(&records[0]);
    assert_eq!((told.len(), told[15].as_str()), (17, long(15).as_str()));
    assert!(records[0].question().is_some(), "what policies saw is left");
    assert_eq!(records[1].question(), None, "its narrowing was left out");
    assert_eq!(told[16], "(and 184 more: too long for one record)");
    assert_eq!(policies(&records[1]), ["(left out: too long for one record)"]);
    assert_eq!(records[1].activity().unwrap().caller, "(left out: too long for one record)");
}

#[test]
fn a_value_behind_a_percent_sign_is_found() {
    const VALUE: &str = "deadbeef-0123";
    let folder = tempfile::tempdir().unwrap();
    let sensitive = [VALUE.to_owned()].into_iter().collect();
    let recorder = Recorder::open(&AuditConfig { sensitive, ..config(folder.path()) }).unwrap();
    for text in [format!("/data/%{VALUE}/x"), format!("/data/{VALUE}/%64eadbeef-0123")] {
        recorder.record(record(&text));
    }
    recorder.close();
    let callers: Vec<String> = read(folder.path())
        .unwrap()
        .map(|record| record.unwrap().activity().unwrap().caller.clone())
        .collect();
    assert_eq!(callers, ["/data/%[redacted]/x", "/data/[redacted]/[redacted]"]);
}

#[test]
fn no_record_holds_a_value_that_must_not_be_seen() {
    const VALUE: &str = "Tr0ub4dor&3/hunter2";
    let folder = tempfile::tempdir().unwrap();
    let sensitive = [VALUE.to_owned(), "acme".to_owned()].into_iter().collect();
    let recorder = Recorder::open(&AuditConfig { sensitive, ..config(folder.path()) }).unwrap();
    let refused = DenialReason::Forbidden(vec!["p".into()], String::new());
    let capability = format!("filesystem:read:/data/{VALUE}/x").parse().unwrap();
    let circumstances = Circumstances {
        narrowing: Some([format!("filesystem:read:/data/{VALUE}")].as_slice().into()),
        ..circumstances(VALUE)
    };
    recorder.record(Record::of_decision(&principal(), &circumstances, &capability, Err(&refused)));
    recorder.close();
    let records: Vec<Record> = read(folder.path()).unwrap().map(Result::unwrap).collect();
    let activity = records[0].activity().unwrap();
    let decision = activity.security.decision.as_ref().unwrap();
    assert_eq!(decision.capability, "filesystem:read:/data/[redacted]/x");
    assert_eq!(decision.narrowing.as_deref(), Some(&["filesystem:read:/data/[redacted]".to_owned()][..]));
    assert_eq!((activity.caller.as_str(), activity.tenant.as_str()), ("[redacted]", "acme"));
    let mut files = vec![folder.path().to_owned()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert!(!text.contains(VALUE), "{}", path.display());
        }
    }
    assert_eq!(verify(folder.path()).faults, []);
}

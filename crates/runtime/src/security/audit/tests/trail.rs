//! Trails: found wherever they lie in the log, whole, and of one tenant alone.

use std::path::Path;

use super::*;
use crate::security::audit::trail::{MAX_FOUND, TrailQuestion, TrailSource, TrailStart};

/// Milliseconds since 1970 of the first record here.
const BEGIN: u64 = 1_795_510_800_000;

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(BEGIN + 1000 * second)
}

/// A decision, or the end, of an execution.
fn of(execution: ExecutionId, tenant: &str, second: u64, is_end: bool) -> Record {
    let circumstances = Circumstances { execution, time: at(second), ..circumstances("ci") };
    let principal = Principal { tenant: tenant.into(), ..principal() };
    let record = if is_end {
        let case = case(principal, Listed::default());
        Record::from(&Ended { case, circumstances, ending: Ending::default() })
    } else {
        let capability = "env:KEY".parse().unwrap();
        Record::of_decision(
            &principal,
            &circumstances,
            &capability,
            Err(&DenialReason::NotInManifest(String::new())),
        )
    };
    Record { timestamp: rfc3339_of(at(second)), ..record }
}

/// A log with an execution of two records in every second, one decision before its end.
fn log(folder: &Path, executions: &[ExecutionId]) {
    let recorder = Recorder::open(&config(folder)).unwrap();
    for (second, id) in (0..).zip(executions) {
        recorder.record(of(*id, "acme", second, false));
        recorder.record(of(*id, "acme", second, true));
    }
    recorder.close();
}

fn source(folder: &Path) -> TrailSource {
    TrailSource { folder: folder.into(), archive: None }
}

fn find(folder: &Path, tenant: &str, execution: ExecutionId, from: TrailStart) -> (Vec<u64>, Option<u64>) {
    let trail = source(folder).find(&TrailQuestion { tenant, execution, from }).unwrap();
    let sequence = |text: &String| serde_json::from_str::<Record>(text).unwrap().sequence;
    (trail.records.iter().map(sequence).collect(), trail.next)
}

#[test]
fn a_trail_is_found_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let executions: Vec<ExecutionId> = (0..900).map(|_| ExecutionId::new()).collect();
    log(folder.path(), &executions);
    for second in [0, 1, 127, 128, 129, 500, 767, 768, 899] {
        let id = executions[usize::try_from(second).unwrap()];
        let expected = vec![2 * second, 2 * second + 1];
        // From the very moment, from before there was a log, and from where somebody was told to go on.
        for from in
            [TrailStart::Time(at(second)), TrailStart::Time(UNIX_EPOCH), TrailStart::Record(2 * second)]
        {
            assert_eq!(find(folder.path(), "acme", id, from), (expected.clone(), None), "{second} {from:?}");
        }
        assert_eq!(find(folder.path(), "acme", id, TrailStart::Record(2 * second + 1)).0, [2 * second + 1]);
        assert_eq!(find(folder.path(), "acme", id, TrailStart::Record(u64::MAX)), (vec![], None));
    }
    // It is not read from its beginning: one that lies there is not found from later on.
    assert_eq!(find(folder.path(), "acme", executions[0], TrailStart::Time(at(800))), (vec![], None));
    assert_eq!(find(folder.path(), "acme", ExecutionId::new(), TrailStart::Time(UNIX_EPOCH)), (vec![], None));
}

#[test]
fn a_trail_is_of_one_tenant_though_another_uses_the_same_id_or_writes_it_somewhere() {
    let folder = tempfile::tempdir().unwrap();
    let (id, other) = (ExecutionId::new(), ExecutionId::new());
    let recorder = Recorder::open(&config(folder.path())).unwrap();
    recorder.record(of(id, "rival", 0, false));
    recorder.record(of(id, "acme", 0, false));
    recorder.record(of(id, "rival", 0, true));
    // As an agent might that wants to be in the trail of another execution.
    let mut mention = of(other, "acme", 0, false);
    if let Event::CapabilityDecision(activity) = &mut mention.event {
        activity.security.decision.as_mut().unwrap().capability = format!("env:{id}");
    }
    recorder.record(mention);
    recorder.record(of(id, "acme", 0, true));
    recorder.close();
    let from = TrailStart::Time(UNIX_EPOCH);
    assert_eq!(find(folder.path(), "acme", id, from), (vec![1, 4], None));
    assert_eq!(find(folder.path(), "rival", id, from), (vec![0, 2], None));
    assert_eq!(find(folder.path(), "", id, from), (vec![], None));
}

#[test]
fn records_that_wait_for_the_tree_are_found_too() {
    let folder = tempfile::tempdir().unwrap();
    let id = ExecutionId::new();
    log(folder.path(), &[ExecutionId::new()]);
    let waiting = [of(id, "acme", 1, false), of(id, "acme", 2, true)];
    let waiting: Vec<Record> =
        (2..).zip(waiting).map(|(sequence, record)| Record { sequence, ..record }).collect();
    wait(folder.path(), &waiting);
    assert_eq!(find(folder.path(), "acme", id, TrailStart::Time(at(1))), (vec![2, 3], None));
    assert_eq!(find(folder.path(), "acme", id, TrailStart::Record(3)), (vec![3], None));
}

#[test]
fn a_long_trail_comes_in_pieces_that_are_put_together_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (id, decisions) = (ExecutionId::new(), u64::try_from(2 * MAX_FOUND + 10).unwrap());
    let recorder = Recorder::open(&config(folder.path())).unwrap();
    for _ in 0..decisions {
        recorder.record(of(id, "acme", 0, false));
    }
    recorder.record(of(id, "acme", 1, true));
    recorder.close();
    let (mut all, mut from, mut pieces) = (Vec::new(), TrailStart::Time(at(0)), 0);
    loop {
        let (found, next) = find(folder.path(), "acme", id, from);
        assert!(found.len() <= MAX_FOUND);
        all.extend(found);
        pieces += 1;
        let Some(next) = next else { break };
        from = TrailStart::Record(next);
    }
    assert_eq!((all, pieces), ((0..=decisions).collect(), 3));
}

#[test]
fn a_log_that_nobody_signed_has_no_trails() {
    let folder = tempfile::tempdir().unwrap();
    let id = ExecutionId::new();
    log(folder.path(), &[id]);
    let checkpoint = folder.path().join("checkpoint");
    let text = std::fs::read_to_string(&checkpoint).unwrap();
    std::fs::write(&checkpoint, text.replace("\n2\n", "\n1\n")).unwrap();
    let question = TrailQuestion { tenant: "acme", execution: id, from: TrailStart::Time(UNIX_EPOCH) };
    assert!(matches!(source(folder.path()).find(&question), Err(AuditError::Broken { .. })));
}

//! The table of executions: who is in it, for how long, and what is told to those who follow them.

use mentat_runtime::events::Delivery;
use mentat_runtime::model::{Event, LogLevel, LogLine, NumberedEvent};

use super::*;

fn table(remembered: usize) -> Arc<Executions> {
    Arc::new(Executions::new(remembered, EventLimits::default(), Arc::default()))
}

fn record() -> ExecutionRecord {
    ExecutionRecord {
        execution_id: ExecutionId::new(),
        agent_id: "a.b".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        runtime: RuntimeKind::Wasm,
        caller: Caller::local(),
        started: SystemTime::now(),
        status: ExecutionStatus::Running,
        receipt: None,
        end_sequence: 0,
    }
}

#[test]
fn an_execution_that_is_dropped_is_cancelled() {
    let executions = table(10);
    let record = record();
    let running = executions.begin(record.clone(), None).unwrap();
    drop(running);
    let found = executions.get(&record.caller, record.execution_id).unwrap();
    assert!(matches!(found.status, ExecutionStatus::Failed { reason: Reason::Cancelled, .. }));
}

#[test]
fn who_asks_late_whether_it_is_to_end_is_told_as_well() {
    let executions = table(10);
    let (one, other) = (record(), record());
    let [running, later] = [&one, &other].map(|record| executions.begin(record.clone(), None).unwrap());
    assert!(!running.is_cancelled());
    executions.cancel(&one.caller, one.execution_id).unwrap();
    assert!(running.is_cancelled() && !later.is_cancelled());
    assert!(running.token().is_cancelled() && !later.token().is_cancelled());
    executions.cancel_all();
    assert!(later.token().is_cancelled());
    drop(later);
    executions.cancel(&other.caller, other.execution_id).unwrap();
}

#[test]
fn forgets_the_oldest_and_refuses_an_id_twice() {
    let executions = table(1);
    let (first, second) = (record(), record());
    let running = executions.begin(first.clone(), None).unwrap();
    assert!(matches!(executions.begin(first.clone(), None), Err(Error::InvalidRequest { .. })));
    drop(running);
    drop(executions.begin(second.clone(), None).unwrap());
    assert!(executions.get(&first.caller, first.execution_id).is_err());
    assert!(executions.get(&second.caller, second.execution_id).is_ok());
}

#[test]
fn receipts_are_kept_within_their_bytes_and_the_oldest_go() {
    let executions = table(10);
    let records = [record(), record(), record()];
    let receipt = Bytes::from(vec![0; MAX_RECEIPTS_BYTES / 2]);
    for record in &records {
        drop(executions.begin(record.clone(), None).unwrap());
        executions.keep_receipt(&record.caller, record.execution_id, receipt.clone());
    }
    let kept =
        records.map(|record| executions.get(&record.caller, record.execution_id).unwrap().receipt.is_some());
    assert_eq!(kept, [false, true, true]);
}

#[test]
fn another_tenant_sees_nothing() {
    let executions = table(1);
    let record = record();
    let _running = executions.begin(record.clone(), None).unwrap();
    let other = Caller { tenant: "other".into(), name: "x".into() };
    assert!(executions.get(&other, record.execution_id).is_err());
    assert!(executions.cancel(&other, record.execution_id).is_err());
    // Nor that the id is taken.
    let theirs = ExecutionRecord { caller: other.clone(), ..record.clone() };
    let _running = executions.begin(theirs, None).unwrap();
    executions.keep_receipt(&other, record.execution_id, Bytes::from_static(b"theirs"));
    assert_eq!(executions.get(&record.caller, record.execution_id).unwrap().receipt, None);
}

fn outcome(output: &'static str) -> Outcome {
    let result = Ok(Answer { output: output.into(), exit_code: 3 });
    Outcome { result, ..Outcome::failed(Error::Cancelled) }
}

fn line() -> Event {
    let timestamp = SystemTime::UNIX_EPOCH;
    Event::Log(LogLine { level: LogLevel::Info, message: "said".into(), timestamp })
}

/// The end that a reader is told, and the number of events before it.
async fn end_of(mut reader: EventReader) -> (usize, Arc<NumberedEvent>) {
    let mut before = 0;
    while let Some(delivery) = reader.next().await {
        match delivery {
            Delivery::Event(event) if matches!(event.event, Event::End(_)) => return (before, event),
            _ => before += 1,
        }
    }
    panic!("there was no end");
}

#[tokio::test]
async fn who_follows_is_told_everything_before_and_after_the_end() {
    let executions = table(10);
    let record = record();
    let running = executions.begin(record.clone(), None).unwrap();
    let follow = || executions.follow(&record.caller, record.execution_id, 0).unwrap();
    let early = follow();
    running.events().unwrap().write(line()).unwrap();
    let middle = follow();
    running.end(&outcome("done"));
    for reader in [early, middle, follow()] {
        let (before, end) = end_of(reader).await;
        assert_eq!((before, end.sequence), (1, 1));
        let Event::End(ended) = &end.event else { panic!("no end") };
        assert_eq!(ended.result.as_ref().unwrap().output, "done");
        assert!(!ended.output_left_out);
    }
    let stranger = Caller { tenant: "other".into(), name: "x".into() };
    let refused = executions.follow(&stranger, record.execution_id, 0);
    assert!(matches!(refused, Err(Error::StreamNotFound { .. })));
}

#[tokio::test]
async fn of_one_that_said_nothing_its_end_is_told_as_long_as_it_is_remembered() {
    let executions = table(1);
    let (silent, next) = (record(), record());
    executions.begin(silent.clone(), None).unwrap().end(&outcome("not kept"));
    let follow = |from| executions.follow(&silent.caller, silent.execution_id, from).unwrap();
    assert!(follow(1).is_at_end(), "who has seen the end is told nothing");
    let (before, end) = end_of(follow(0)).await;
    let Event::End(ended) = &end.event else { panic!("no end") };
    assert_eq!((before, ended.result.as_ref().unwrap().exit_code), (0, 3));
    assert!(ended.output_left_out);
    executions.begin(next, None).unwrap().end(&outcome(""));
    assert!(executions.follow(&silent.caller, silent.execution_id, 0).is_err());
}

#[tokio::test]
async fn what_somebody_will_read_is_kept_though_the_execution_is_forgotten() {
    let executions = table(1);
    let (expected, cancelled) = (record(), record());
    let running = executions.begin(expected.clone(), None).unwrap();
    running.events().unwrap().expect_readers();
    running.end(&outcome("kept"));
    let running = executions.begin(cancelled.clone(), None).unwrap();
    running.events().unwrap().write(line()).unwrap();
    drop(running);
    assert!(executions.get(&expected.caller, expected.execution_id).is_err());
    let (_, end) = end_of(executions.follow(&expected.caller, expected.execution_id, 0).unwrap()).await;
    let Event::End(ended) = &end.event else { panic!("no end") };
    assert_eq!(ended.result.as_ref().unwrap().output, "kept");
    let (_, end) = end_of(executions.follow(&cancelled.caller, cancelled.execution_id, 0).unwrap()).await;
    let Event::End(ended) = &end.event else { panic!("no end") };
    assert_eq!(ended.result.as_ref().unwrap_err().reason, Reason::Cancelled);
}

#[test]
fn pages_have_every_execution_of_the_tenant_once_and_the_newest_first() {
    let executions = table(1000);
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let other = Caller { tenant: "other".into(), name: "other".into() };
    let mut running = Vec::new();
    for number in 0..25 {
        // Two in each second.
        let record = ExecutionRecord { started: at(number / 2), ..record() };
        let foreign = ExecutionRecord { caller: other.clone(), started: at(number), ..self::record() };
        drop(executions.begin(foreign, None).unwrap());
        let begun = executions.begin(record, None).unwrap();
        if number % 5 == 0 {
            running.push(begun);
        }
    }
    let caller = Caller::local();
    let all_in_pages_of = |state, size| {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = executions.list(&caller, state, size, &token).unwrap();
            assert!(page.executions.len() == size || page.next.is_empty() && page.executions.len() < size);
            found.extend(page.executions);
            token = page.next;
            if token.is_empty() {
                return found;
            }
        }
    };
    for size in [1, 3, 5, 24, 25, 26] {
        let found = all_in_pages_of(None, size);
        assert_eq!(found.len(), 25);
        assert!(found.iter().all(|record| record.caller == caller));
        let ranks: Vec<_> = found.iter().map(|record| (record.started, record.execution_id)).collect();
        assert!(ranks.windows(2).all(|pair| pair[0] > pair[1]), "{ranks:?}");
    }
    assert_eq!(all_in_pages_of(Some(ExecutionState::Running), 2).len(), 5);
    assert_eq!(all_in_pages_of(Some(ExecutionState::Failed), 1000).len(), 20);
    assert_eq!(all_in_pages_of(Some(ExecutionState::Finished), 7).len(), 0);
    let id = ExecutionId::new();
    let far = format!("18446744073709551615.999999999@{id}");
    let carried = format!("18446744073709551615.4294967295@{id}");
    for token in ["x", "1.2@x", "1@01890a5d-ac96-774b-bcce-b302099a8057", &far, &carried] {
        assert!(
            matches!(executions.list(&caller, None, 1, token), Err(Error::InvalidRequest { .. })),
            "{token}"
        );
    }
}

#[test]
fn a_page_that_does_not_say_how_long_has_a_hundred_and_none_has_receipts() {
    let executions = table(1000);
    let records: Vec<_> = (0..101).map(|_| record()).collect();
    for record in &records {
        drop(executions.begin(record.clone(), None).unwrap());
        executions.keep_receipt(&record.caller, record.execution_id, Bytes::from_static(b"receipt"));
    }
    let page = executions.list(&Caller::local(), None, 0, "").unwrap();
    assert_eq!((page.executions.len(), page.next.is_empty()), (100, false));
    assert!(page.executions.iter().all(|record| record.receipt.is_none()));
}

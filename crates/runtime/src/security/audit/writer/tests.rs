//! What becomes of records, and of those who record, when the disk refuses.

use std::fs::File;

use super::*;
use crate::security::audit::tests::{config, record, verify};

#[test]
fn records_that_were_written_are_not_written_again_when_the_disk_does_not_confirm_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = AuditConfig { sync: SyncMode::Group, ..config(folder.path()) };
    let mut writer = Writer::open(&config, Arc::default()).unwrap();
    // It takes everything that is written, and refuses to be waited for.
    let refuses = File::options().write(true).open("/dev/null").unwrap();
    let pending = writer.log.replace_pending(refuses);
    for caller in ["first", "second"] {
        writer.state.queued.fetch_add(1, Ordering::Relaxed);
        writer.number(record(caller));
        writer.write();
        assert!(writer.state.failing.load(Ordering::Relaxed));
    }
    writer.log.replace_pending(pending);
    writer.write();
    assert!(!writer.state.failing.load(Ordering::Relaxed));
    assert_eq!(writer.state.queued.load(Ordering::Relaxed), 0);
    writer.integrate();
    let report = verify(folder.path());
    assert_eq!((report.faults, report.signed), (vec![], 2));
}
/// A writer whose disk has no room, what hands it records, and the file that they go to.
fn full(config: &AuditConfig) -> (Writer, Recorder, mpsc::Receiver<Message>, File) {
    let (queue, records) = mpsc::channel();
    let mut writer = Writer::open(config, Arc::default()).unwrap();
    let handle = Handle {
        queue,
        state: Arc::clone(&writer.state),
        signer: Signer(writer.log.signer().clone()),
        on_failure: config.on_failure,
        thread: Mutex::default(),
    };
    let pending = writer.log.replace_pending(File::options().write(true).open("/dev/full").unwrap());
    (writer, Recorder(Arc::new(handle)), records, pending)
}

fn take(writer: &mut Writer, records: &mpsc::Receiver<Message>) {
    while let Ok(Message::Record(record)) = records.try_recv() {
        writer.number(*record);
    }
}

#[test]
fn a_full_disk_refuses_what_is_new_and_is_not_asked_again_for_each_record() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, recorder, records, pending) = full(&config(folder.path()));
    assert!(recorder.admits());
    recorder.record(record("first"));
    take(&mut writer, &records);
    writer.write();
    assert!(!recorder.admits());
    assert!(writer.retry_at.is_some_and(|at| at > Instant::now()));
    writer.log.replace_pending(pending);
    writer.write();
    assert!(recorder.admits() && writer.retry_at.is_none());
}

#[test]
fn what_is_lost_while_executions_go_on_unaudited_is_counted_and_the_log_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = AuditConfig { on_failure: OnAuditFailure::Continue, ..config(folder.path()) };
    let (mut writer, recorder, records, pending) = full(&config);
    recorder.record(record("first"));
    take(&mut writer, &records);
    writer.write();
    assert!(recorder.admits() && !recorder.accepts());
    writer.state.queued.fetch_add(MAX_KEPT - 2, Ordering::Relaxed);
    for caller in ["kept", "lost", "lost too"] {
        recorder.record(record(caller));
    }
    writer.state.queued.fetch_sub(MAX_KEPT - 2, Ordering::Relaxed);
    take(&mut writer, &records);
    writer.log.replace_pending(pending);
    writer.write();
    writer.integrate();
    let report = verify(folder.path());
    assert_eq!((report.faults, report.signed), (vec![], 3));
    let last = crate::security::audit::read(folder.path()).unwrap().last().unwrap().unwrap();
    assert_eq!(last.event, Record::of_loss(2).event);
    assert_eq!(writer.state.queued.load(Ordering::Relaxed), 0);
}

#[test]
fn memory_that_many_records_took_is_given_back_when_few_come() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&config(folder.path()), Arc::default()).unwrap();
    let mut write = |count: usize| {
        writer.state.queued.fetch_add(count, Ordering::Relaxed);
        (0..count).for_each(|_| assert!(writer.number(record("somebody"))));
        writer.write();
        writer.integrate();
        writer.log.room()
    };
    let (used, room) = write(4000);
    assert!(used == 0 && room > 4 * FEW_BYTES, "{used} {room}");
    for _ in 1..REST_AFTER {
        assert_eq!(write(1).1, room);
    }
    assert!(write(1).1 < FEW_BYTES);
}

#[test]
fn nothing_is_let_in_when_the_writer_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(&config(folder.path())).unwrap();
    assert!(recorder.admits());
    recorder.close();
    assert!(!recorder.admits());
}

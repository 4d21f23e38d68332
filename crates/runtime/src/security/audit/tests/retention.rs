//! What retention takes out goes by a record that says so, over crashes and beside readers.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::security::audit::log::Log;
use crate::security::audit::retention::Retention;

/// 600 records, of which the first two bundles are full.
fn log_of_600() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 600);
    folder
}

/// Lets a server take out what is over the bound: all bundles that are full.
fn prune(folder: &Path, archive: Option<&Path>, first: u64) {
    let recorder = Recorder::open(&retaining(folder, archive)).unwrap();
    until("the bundles are gone", || first_kept(folder) == first);
    recorder.close();
}

fn retaining(folder: &Path, archive: Option<&Path>) -> AuditConfig {
    let archive = archive.map(Path::to_owned);
    let retention = RetentionConfig { age: None, bytes: Some(1), archive };
    AuditConfig { retention, ..config(folder) }
}

#[test]
fn records_over_the_bound_go_by_a_signed_record_and_the_rest_stays_provable() {
    let folder = log_of_600();
    let early = std::fs::read(folder.path().join("checkpoint")).unwrap();
    // A crash has left a bundle as it was before it was full.
    std::fs::create_dir_all(folder.path().join("tile/entries/001.p")).unwrap();
    std::fs::copy(folder.path().join("tile/entries/001"), folder.path().join("tile/entries/001.p/9"))
        .unwrap();
    prune(folder.path(), None, 512);
    assert!(!folder.path().join("tile/entries/001.p").exists());
    let report = check(folder.path(), &Evidence { checkpoint: Some(&early), ..Evidence::default() }).unwrap();
    assert_eq!((report.faults, report.records, report.signed), (vec![], 89, 601));
    let pruned = report.pruned.unwrap();
    let expected =
        RetentionPart { first_kept: 512, reason: RetentionReason::Size, limit: 1, archived: false };
    assert_eq!((pruned.first, pruned.last, pruned.by, pruned.retention), (0, 511, 600, expected));
    assert!(numbers(folder.path(), None).into_iter().eq(512..601));
    // It goes on, over openings.
    write(folder.path(), 200);
    assert_eq!(verify(folder.path()).faults, []);
    prune(folder.path(), None, 768);
    let report = verify(folder.path());
    assert_eq!((report.faults, report.pruned.unwrap().last), (vec![], 767));
    // What no record allows to be taken out is missed.
    write(folder.path(), 600);
    std::fs::remove_file(folder.path().join("tile/entries/004")).unwrap();
    assert_eq!(verify(folder.path()).faults, [Fault::Missing { first: 1024, last: 1279 }]);
    // Without the record that allows it, the rest is missed as well.
    std::fs::remove_file(folder.path().join("tile/entries/003")).unwrap();
    assert_eq!(verify(folder.path()).faults, [Fault::Missing { first: 0, last: 1279 }]);
}

#[test]
fn records_go_by_age_and_young_ones_stay() {
    let folder = log_of_600();
    let aged = |age| RetentionConfig { age: Some(age), ..RetentionConfig::default() };
    let hour = AuditConfig { retention: aged(Duration::from_secs(3600)), ..config(folder.path()) };
    Recorder::open(&hour).unwrap().close();
    assert_eq!((first_kept(folder.path()), verify(folder.path()).records), (0, 600));
    let instant = AuditConfig { retention: aged(Duration::from_millis(1)), ..config(folder.path()) };
    let recorder = Recorder::open(&instant).unwrap();
    until("the bundles are gone", || first_kept(folder.path()) == 512);
    recorder.close();
    assert_eq!(verify(folder.path()).pruned.unwrap().retention.reason, RetentionReason::Age);
}

#[test]
fn archived_records_are_read_and_checked_with_the_rest() {
    let (folder, archive) = (log_of_600(), tempfile::tempdir().unwrap());
    prune(folder.path(), Some(archive.path()), 512);
    let with_archive = Evidence { archive: Some(archive.path()), ..Evidence::default() };
    let report = check(folder.path(), &with_archive).unwrap();
    assert_eq!((report.faults, report.records, report.pruned), (vec![], 601, None));
    assert!(numbers(folder.path(), Some(archive.path())).into_iter().eq(0..601));
    assert!(verify(folder.path()).pruned.unwrap().retention.archived);
    // One bundle of the archive is lost, in the other a record is changed.
    std::fs::remove_file(archive.path().join("tile/entries/000")).unwrap();
    let path = archive.path().join("tile/entries/001");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(10).position(|window| window == b"caller-300").unwrap();
    bytes[at] = b'C';
    std::fs::write(&path, bytes).unwrap();
    let report = check(folder.path(), &with_archive).unwrap();
    assert_eq!(report.faults, [Fault::Missing { first: 0, last: 255 }, Fault::Changed(300)]);
    assert_eq!(report.pruned, None);
}

#[test]
fn an_old_checkpoint_is_noticed_where_the_records_after_it_were_taken_out() {
    let (folder, archive) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(folder.path(), 256);
    let early = std::fs::read(folder.path().join("checkpoint")).unwrap();
    write(folder.path(), 600);
    prune(folder.path(), Some(archive.path()), 768);
    std::fs::write(folder.path().join("checkpoint"), early).unwrap();
    let with_archive = Evidence { archive: Some(archive.path()), ..Evidence::default() };
    let faults = check(folder.path(), &with_archive).unwrap().faults;
    assert_eq!(faults, [Fault::OldCheckpoint { size: 256 }]);
    let refused = Recorder::open(&config(folder.path())).unwrap_err().to_string();
    assert!(refused.contains("it is over 256 records, and there are more"), "{refused}");
}

#[test]
fn an_archive_that_is_the_log_itself_or_anothers_is_refused() {
    let (folder, archive) = (log_of_600(), tempfile::tempdir().unwrap());
    let itself = folder.path().join("../").join(folder.path().file_name().unwrap());
    let refused = Recorder::open(&retaining(folder.path(), Some(&itself))).unwrap_err();
    assert!(refused.to_string().contains("the log's own folder"), "{refused}");
    std::fs::create_dir_all(archive.path().join("tile/entries")).unwrap();
    std::fs::write(archive.path().join("tile/entries/000"), "another's").unwrap();
    let recorder = Recorder::open(&retaining(folder.path(), Some(archive.path()))).unwrap();
    until("leave is recorded", || numbers(folder.path(), None).len() == 601);
    std::thread::sleep(Duration::from_millis(50));
    recorder.close();
    assert_eq!((first_kept(folder.path()), verify(folder.path()).faults), (0, vec![]));
    assert_eq!(std::fs::read(archive.path().join("tile/entries/000")).unwrap(), b"another's");
}

/// The log at every moment at which pruning can be interrupted.
fn moments(archive: &Path) -> Vec<(&'static str, tempfile::TempDir)> {
    let folder = log_of_600();
    let mut moments = Vec::new();
    let config = RetentionConfig { age: None, bytes: Some(1), archive: Some(archive.into()) };
    {
        let mut log = Log::open(folder.path(), "test.log", SyncMode::Checkpoint).unwrap();
        let mut retention = Retention::new(config, &log).unwrap();
        let mut leave = Record::of_retention(retention.round(&log).unwrap().unwrap());
        leave.sequence = log.next();
        log.append(&mut entries([serde_json::to_vec(&leave).unwrap()])).unwrap();
        assert_eq!(retention.round(&log).unwrap(), None);
        assert_eq!(first_kept(folder.path()), 0, "nothing goes before the record is signed");
        moments.push(("the record is written", copy(folder.path())));
        log.integrate().unwrap();
        moments.push(("the record is signed", copy(folder.path())));
    }
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(archive.join("tile/entries")).unwrap();
    std::fs::copy(at("tile/entries/000"), archive.join("tile/entries/000")).unwrap();
    moments.push(("one bundle is copied", copy(folder.path())));
    std::fs::remove_file(at("tile/entries/000")).unwrap();
    moments.push(("one bundle is gone", copy(folder.path())));
    std::fs::copy(at("tile/entries/001"), archive.join("tile/entries/001")).unwrap();
    std::fs::remove_file(at("tile/entries/001")).unwrap();
    moments.push(("both are gone", copy(folder.path())));
    moments
}

#[test]
fn pruning_that_was_interrupted_anywhere_is_in_order_and_goes_on() {
    let archive = tempfile::tempdir().unwrap();
    for (moment, folder) in moments(archive.path()) {
        assert_eq!(verify(folder.path()).faults, [], "{moment}");
        prune(folder.path(), Some(archive.path()), 512);
        let report = verify(folder.path());
        assert_eq!((report.faults, report.pruned.unwrap().last), (vec![], 511), "{moment}");
        let with_archive = Evidence { archive: Some(archive.path()), ..Evidence::default() };
        let report = check(folder.path(), &with_archive).unwrap();
        assert_eq!((report.faults, report.pruned), (vec![], None), "{moment}");
    }
}

#[test]
fn leave_that_nobody_signed_excuses_nothing() {
    let folder = log_of_600();
    let retention =
        RetentionPart { first_kept: 512, reason: RetentionReason::Age, limit: 1, archived: false };
    let mut leave = Record::of_retention(retention);
    leave.sequence = 600;
    let line = serde_json::to_string(&leave).unwrap() + "\n";
    std::fs::write(folder.path().join("pending"), line).unwrap();
    std::fs::remove_file(folder.path().join("tile/entries/000")).unwrap();
    let missing = Fault::Missing { first: 0, last: 255 };
    assert_eq!(verify(folder.path()).faults, [missing.clone(), Fault::Forged(600)]);
    assert!(Recorder::open(&config(folder.path())).is_err());
    wait(folder.path(), &[leave]);
    assert_eq!(verify(folder.path()).faults, [missing]);
    // A server that takes it up signs it, and not what it allows.
    write(folder.path(), 1);
    let report = verify(folder.path());
    assert_eq!(report.faults, [Fault::Missing { first: 0, last: 255 }]);
    assert_eq!((numbers_from(folder.path(), 256), report.pruned), ((256..602).collect(), None));
}

#[test]
fn leave_that_a_crash_took_back_does_not_take_back_leave_that_was_used() {
    let folder = log_of_600();
    prune(folder.path(), None, 512);
    write(folder.path(), 200);
    let retention =
        RetentionPart { first_kept: 768, reason: RetentionReason::Size, limit: 1, archived: false };
    let mut leave = Record::of_retention(retention);
    leave.sequence = 801;
    wait(folder.path(), &[leave]);
    write(folder.path(), 1);
    let report = verify(folder.path());
    assert_eq!((report.faults, report.pruned.map(|pruned| pruned.last)), (vec![], Some(511)));
    prune(folder.path(), None, 768);
    assert_eq!(verify(folder.path()).faults, []);
}

#[test]
fn a_log_that_is_written_and_pruned_meanwhile_is_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(&retaining(folder.path(), None)).unwrap();
    let writing = std::thread::spawn({
        let recorder = recorder.clone();
        move || {
            for number in 0..30_000 {
                recorder.record(record("ci"));
                if number % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    });
    let mut pruned = 0;
    while !writing.is_finished() {
        let report = verify(folder.path());
        assert_eq!(report.faults, []);
        pruned += usize::from(report.pruned.is_some());
    }
    writing.join().unwrap();
    recorder.close();
    assert!(pruned > 0);
    assert_eq!(verify(folder.path()).faults, []);
}

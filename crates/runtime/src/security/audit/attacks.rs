//! What somebody who can write the folder does to it, and what is said of that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use tlog_tiles::record_hash;

use super::reading::read_bundle;
use super::tests::{config, copy, entries, verify, wait, write};
use super::*;

/// A log of 600 records: two full bundles, and one of 88.
struct Victim {
    folder: tempfile::TempDir,
    /// The checkpoint as it was after 300.
    early: Vec<u8>,
}

impl Victim {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 300);
        let early = std::fs::read(folder.path().join("checkpoint")).unwrap();
        write(folder.path(), 300);
        assert_eq!(verify(folder.path()).faults, []);
        Self { folder, early }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        self.edit(name, |bytes| {
            let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            bytes.splice(at..at + from.len(), to.bytes());
        });
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    /// Changes the records of a bundle, and writes it as it should be written.
    fn bundle(&self, number: u64, width: usize, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let mut records = read_bundle(self.folder.path(), number, width).unwrap().records;
        change(&mut records);
        let lengths = |record: &Vec<u8>| u16::try_from(record.len()).unwrap().to_be_bytes();
        let bytes: Vec<u8> = records
            .iter()
            .flat_map(|record| lengths(record).into_iter().chain(record.iter().copied()))
            .collect();
        let name = if width == 256 { format!("00{number}") } else { format!("00{number}.p/{width}") };
        std::fs::write(self.path(&format!("tile/entries/{name}")), bytes).unwrap();
    }

    /// Makes the hashes of a full bundle such that they go with its records.
    fn hash_again(&self, number: u64) {
        let records = read_bundle(self.folder.path(), number, 256).unwrap().records;
        let hashes: Vec<u8> = records.iter().flat_map(|record| record_hash(record).0).collect();
        std::fs::write(self.path(&format!("tile/0/00{number}")), hashes).unwrap();
    }
}

type Attack = (&'static str, fn(&Victim), &'static [&'static str]);

/// Each with the faults that are told, the first ones where there are many.
const ATTACKS: &[Attack] = &[
    (
        "a byte of a record is changed",
        |victim| victim.replace("tile/entries/001", "caller-100", "caller-999"),
        &["record 400 is not the one that was logged"],
    ),
    (
        "a record becomes longer",
        |victim| victim.replace("tile/entries/001", "caller-100", "caller-1000"),
        &["record 400 is not the one that was logged"],
    ),
    (
        "a record and its hash are changed",
        |victim| {
            victim.replace("tile/entries/001", "caller-100", "caller-999");
            victim.hash_again(1);
        },
        &["records 256 to 511: some were changed, and their hashes with them"],
    ),
    (
        "two records are swapped",
        |victim| victim.bundle(0, 256, |records| records.swap(10, 11)),
        &["record 10 is not the one that was logged", "record 11 is not the one that was logged"],
    ),
    (
        "a record is put twice, in the place of another",
        |victim| victim.bundle(1, 256, |records| records[7] = records[6].clone()),
        &["record 263 is not the one that was logged"],
    ),
    (
        "a record is put in",
        |victim| victim.bundle(2, 88, |records| records.insert(87, records[0].clone())),
        &[
            "the file of records 512 to 599 holds something behind them",
            "record 599 is not the one that was logged",
        ],
    ),
    (
        "a record is taken out",
        |victim| victim.bundle(2, 88, |records| drop(records.remove(86))),
        &["record 598 is not the one that was logged", "record 599 is missing"],
    ),
    (
        "the last bundle is cut in the middle of a record",
        |victim| victim.edit("tile/entries/002.p/88", |bytes| bytes.truncate(bytes.len() - 5)),
        &["record 599 is missing"],
    ),
    (
        "the last bundle is removed",
        |victim| victim.remove("tile/entries/002.p/88"),
        &["records 512 to 599 are missing"],
    ),
    (
        "the middle bundle is removed",
        |victim| victim.remove("tile/entries/001"),
        &["records 256 to 511 are missing"],
    ),
    (
        "two bundles change places",
        |victim| {
            let first = std::fs::read(victim.path("tile/entries/000")).unwrap();
            std::fs::rename(victim.path("tile/entries/001"), victim.path("tile/entries/000")).unwrap();
            std::fs::write(victim.path("tile/entries/001"), first).unwrap();
        },
        &["record 0 is not the one that was logged", "record 1 is not the one that was logged"],
    ),
    (
        "something is written behind a bundle",
        |victim| victim.edit("tile/entries/000", |bytes| bytes.push(0)),
        &["the file of records 0 to 255 holds something behind them"],
    ),
    (
        "hashes are changed",
        |victim| victim.edit("tile/0/001", |bytes| bytes[40] ^= 1),
        &["the hashes of records 256 to 511 are missing or were changed"],
    ),
    (
        "hashes are removed",
        |victim| victim.remove("tile/0/002.p/88"),
        &["the hashes of records 512 to 599 are missing or were changed"],
    ),
    (
        "records and their hashes are removed",
        |victim| {
            victim.remove("tile/entries/001");
            victim.remove("tile/0/001");
        },
        &["the hashes of records 256 to 511 are missing or were changed", "records 256 to 511 are missing"],
    ),
    (
        "the hashes above hashes are changed",
        |victim| victim.edit("tile/1/000.p/2", |bytes| bytes[0] ^= 1),
        &["the hashes of records 0 to 255 are missing or were changed"],
    ),
    (
        "all hashes up to the root are made anew",
        |victim| {
            victim.replace("tile/entries/001", "caller-100", "caller-999");
            victim.hash_again(1);
            let hashes = reading::read_tile(victim.folder.path(), 0, 1, 256).unwrap();
            victim.edit("tile/1/000.p/2", |bytes| bytes[32..].copy_from_slice(&tree::subtree(&hashes).0));
        },
        &["the records do not make the root that was signed"],
    ),
    (
        "the checkpoint is changed",
        |victim| victim.replace("checkpoint", "\n600\n", "\n500\n"),
        &["the checkpoint is not signed by the log's key"],
    ),
    (
        "the checkpoint is removed",
        |victim| victim.remove("checkpoint"),
        &["there are records, and no checkpoint"],
    ),
    (
        "the checkpoint is one of before",
        |victim| std::fs::write(victim.path("checkpoint"), &victim.early).unwrap(),
        &["the checkpoint is over 300 records, and there are more: it is an old one"],
    ),
    (
        "the public key is another's",
        |victim| {
            let other = tempfile::tempdir().unwrap();
            write(other.path(), 1);
            std::fs::copy(other.path().join("key.pub"), victim.path("key.pub")).unwrap();
        },
        &["the checkpoint is not signed by the log's key"],
    ),
];

#[test]
fn every_change_of_what_is_signed_is_found_and_named() {
    let victim = Victim::new();
    for (attack, change, expected) in ATTACKS {
        let attacked = Victim { folder: copy(victim.folder.path()), early: victim.early.clone() };
        change(&attacked);
        let told: Vec<String> =
            verify(attacked.folder.path()).faults.iter().map(ToString::to_string).collect();
        let first: Vec<&str> = told.iter().map(String::as_str).take(expected.len()).collect();
        assert_eq!(first, *expected, "{attack}");
        let many = ["two bundles change places", "a record becomes longer"];
        assert!(told.len() == expected.len() || many.contains(attack), "{attack}: {told:?}");
    }
}

#[test]
fn what_is_no_file_or_has_no_end_keeps_nobody_waiting() {
    let victim = Victim::new();
    let pipe = |path: &Path| mkfifoat(CWD, path, Mode::RWXU).unwrap();
    let endless = |path: &Path| std::fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
    for name in ["checkpoint", "pending", "tile/0/001", "tile/entries/001", "tile/0/002.p/88", "key"] {
        for instead in [&pipe as &dyn Fn(&Path), &endless] {
            let attacked = Victim { folder: copy(victim.folder.path()), early: victim.early.clone() };
            attacked.remove(name);
            instead(&attacked.path(name));
            let is_named = name == "key" || !verify(attacked.folder.path()).faults.is_empty();
            assert!(is_named, "{name}");
            // Nothing at the end of a log is in the tiles that are full.
            let opened = Recorder::open(&config(attacked.folder.path()));
            assert_eq!(opened.is_err(), !name.ends_with("001"), "{name}");
        }
    }
}

#[test]
fn a_server_does_not_go_on_with_a_log_whose_end_was_changed() {
    let victim = Victim::new();
    let refused = |change: fn(&Victim)| {
        let attacked = Victim { folder: copy(victim.folder.path()), early: victim.early.clone() };
        change(&attacked);
        Recorder::open(&config(attacked.folder.path())).unwrap_err().to_string()
    };
    let said = refused(|victim| std::fs::write(victim.path("checkpoint"), &victim.early).unwrap());
    assert!(
        said.contains("it is over 300 records, and there are more") || said.contains("do not make the root"),
        "{said}"
    );
    let said = refused(|victim| victim.remove("checkpoint"));
    assert!(said.contains("it is over 0 records, and there are more"), "{said}");
    let said = refused(|victim| victim.replace("checkpoint", "\n600\n", "\n512\n"));
    assert!(said.contains("not signed by the log's key"), "{said}");
    let said = refused(|victim| victim.edit("tile/0/002.p/88", |bytes| bytes[0] ^= 1));
    assert!(said.contains("do not make the root that was signed"), "{said}");
    assert!(said.contains("`mentat audit verify` says more"), "{said}");
}

#[test]
fn what_is_in_order_by_itself_is_found_by_what_was_kept_elsewhere() {
    let victim = Victim::new();
    let key = std::fs::read(victim.path("key.pub")).unwrap();
    let late = std::fs::read(victim.path("checkpoint")).unwrap();
    let with = |checkpoint| Evidence { key: Some(&key), checkpoint: Some(checkpoint), archive: None };
    assert_eq!(check(victim.folder.path(), &with(&victim.early)).unwrap().faults, []);

    // All of it as it was at 300.
    let rolled_back = tempfile::tempdir().unwrap();
    for name in ["key", "key.pub"] {
        std::fs::copy(victim.path(name), rolled_back.path().join(name)).unwrap();
    }
    write(rolled_back.path(), 0);
    let recorder = Recorder::open(&config(rolled_back.path())).unwrap();
    for record in read(victim.folder.path()).unwrap().take(300) {
        recorder.record(record.unwrap());
    }
    recorder.close();
    let verdict = check(rolled_back.path(), &with(&late)).unwrap();
    assert_eq!(verdict.faults, [Fault::Missing { first: 300, last: 599 }]);
    assert_eq!(verify(rolled_back.path()).faults, [], "nothing in the folder itself tells");

    // Other records, signed by the log's key.
    let rewritten = tempfile::tempdir().unwrap();
    for name in ["key", "key.pub"] {
        std::fs::copy(victim.path(name), rewritten.path().join(name)).unwrap();
    }
    write(rewritten.path(), 400);
    assert_eq!(
        check(rewritten.path(), &with(&victim.early)).unwrap().faults,
        [Fault::Rewritten { size: 300 }]
    );

    // Another log altogether, by another key.
    let replaced = tempfile::tempdir().unwrap();
    write(replaced.path(), 400);
    let only_key = Evidence { key: Some(&key), ..Evidence::default() };
    assert_eq!(check(replaced.path(), &only_key).unwrap().faults, [Fault::Signature]);
    let only_checkpoint = Evidence { checkpoint: Some(&victim.early), ..Evidence::default() };
    let faults = check(replaced.path(), &only_checkpoint).unwrap().faults;
    assert_eq!(faults, [Fault::OtherKey, Fault::Rewritten { size: 300 }]);
}

#[test]
fn of_records_that_are_not_signed_yet_those_in_the_middle_are_missed_and_those_at_the_end_are_not() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 3);
    let slow = AuditConfig { checkpoint_every: Duration::from_secs(3600), ..config(folder.path()) };
    let recorder = Recorder::open(&slow).unwrap();
    for record in read(folder.path()).unwrap().map(Result::unwrap).collect::<Vec<_>>() {
        recorder.record(record);
    }
    let pending = |folder: &Path| std::fs::read_to_string(folder.join("pending")).unwrap();
    while pending(folder.path()).matches('\n').count() < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let log = copy(folder.path());
    recorder.close();
    let lines: Vec<String> = pending(log.path()).lines().map(str::to_owned).collect();
    let verdict = |text: String| {
        std::fs::write(log.path().join("pending"), text).unwrap();
        let report = verify(log.path());
        (report.records, report.torn, report.faults)
    };
    let [first, second, third] = lines.try_into().unwrap();
    assert_eq!(verdict(format!("{first}\n{second}\n{third}\n")), (6, false, vec![]));
    assert_eq!(verdict(format!("{first}\n{third}\n")), (4, false, vec![Fault::Pending(4)]));
    assert_eq!(verdict(format!("{second}\n{first}\n")), (3, false, vec![Fault::Pending(3)]));
    assert_eq!(verdict(format!("{first}\n{second}\n{}", third.get(..9).unwrap())), (5, true, vec![]));
    assert_eq!(verdict(format!("{first}\nnothing\n")), (4, false, vec![Fault::Pending(4)]));
    // Nothing vouches for these yet; `audit.checkpoint_ms` bounds how many there are.
    assert_eq!(verdict(format!("{first}\n")), (4, false, vec![]));
}

#[test]
fn of_records_that_somebody_took_out_a_server_signs_no_leave() {
    for (age, bytes, archived) in [(None, Some(1), false), (Some(Duration::from_millis(1)), None, true)] {
        for taken in [&[0][..], &[1], &[0, 1]] {
            let (victim, archive) = (Victim::new(), tempfile::tempdir().unwrap());
            for bundle in taken {
                victim.remove(&format!("tile/entries/00{bundle}"));
            }
            let missing = verify(victim.folder.path()).faults;
            let archive = archived.then(|| archive.path().to_owned());
            let retention = RetentionConfig { age, bytes, archive };
            let recorder =
                Recorder::open(&AuditConfig { retention, ..config(victim.folder.path()) }).unwrap();
            std::thread::sleep(Duration::from_millis(60));
            recorder.close();
            let report = verify(victim.folder.path());
            assert_eq!((report.faults, report.pruned), (missing, None), "{taken:?}");
        }
    }
}

#[test]
fn of_a_bundle_that_is_taken_out_before_it_is_archived_none_goes() {
    let (victim, archive) = (Victim::new(), tempfile::tempdir().unwrap());
    let folder = victim.folder.path();
    let config = RetentionConfig { age: None, bytes: Some(1), archive: Some(archive.path().into()) };
    let mut log = log::Log::open(folder, "test.log", SyncMode::Never).unwrap();
    let mut retention = retention::Retention::new(config, &log).unwrap();
    let mut leave = Record::of_retention(retention.round(&log).unwrap().unwrap());
    leave.sequence = log.next();
    log.append(&mut entries([serde_json::to_vec(&leave).unwrap()])).unwrap();
    log.integrate().unwrap();
    victim.remove("tile/entries/001");
    assert!(retention.round(&log).unwrap_err().to_string().contains("tile/entries/001"));
    assert!(victim.path("tile/entries/000").is_file());
}

#[test]
fn a_record_that_waits_hides_no_old_checkpoint() {
    let waits = |victim: &Victim, number: u64| {
        let mut record = read(victim.folder.path()).unwrap().next().unwrap().unwrap();
        record.sequence = number;
        wait(victim.folder.path(), &[record]);
    };
    let victim = Victim::new();
    waits(&victim, 300);
    std::fs::write(victim.path("checkpoint"), &victim.early).unwrap();
    assert_eq!(verify(victim.folder.path()).faults, [Fault::OldCheckpoint { size: 300 }]);
    let refused = Recorder::open(&config(victim.folder.path())).unwrap_err().to_string();
    assert!(refused.contains("it is over 300 records, and there are more"), "{refused}");

    let victim = Victim::new();
    waits(&victim, 0);
    victim.remove("checkpoint");
    assert_eq!(verify(victim.folder.path()).faults, [Fault::NoCheckpoint]);
    assert!(Recorder::open(&config(victim.folder.path())).is_err());
}

#[test]
fn a_crash_before_the_checkpoint_is_no_attack() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 300);
    let early = std::fs::read(folder.path().join("checkpoint")).unwrap();
    write(folder.path(), 300);
    let waiting = read_from(folder.path(), None, 300).unwrap();
    wait(folder.path(), &waiting.map(Result::unwrap).collect::<Vec<_>>());
    std::fs::write(folder.path().join("checkpoint"), early).unwrap();
    assert_eq!(verify(folder.path()).faults, []);
    write(folder.path(), 1);
    let report = verify(folder.path());
    assert_eq!((report.faults, report.signed), (vec![], 601));
}

#[test]
fn a_log_whose_key_is_gone_gets_no_other() {
    for left in ["checkpoint", "tile", "pending"] {
        let victim = Victim::new();
        let public = std::fs::read(victim.path("key.pub")).unwrap();
        victim.remove("key");
        for gone in ["checkpoint", "pending"].iter().filter(|name| **name != left) {
            victim.remove(gone);
        }
        if left != "tile" {
            std::fs::remove_dir_all(victim.path("tile")).unwrap();
        }
        let refused = Recorder::open(&config(victim.folder.path())).unwrap_err().to_string();
        assert!(refused.contains(&format!("there is a log (`{left}`)")), "{refused}");
        assert_eq!(std::fs::read(victim.path("key.pub")).unwrap(), public);
        assert!(!victim.path("key").exists());
    }
}

#[test]
fn nobody_else_can_read_the_key() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let victim = Victim::new();
    assert_eq!(mode(victim.path("key")), 0o600);
}

#[test]
fn hashes_high_above_the_records_are_checked_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log::Log::open(folder.path(), "test.log", SyncMode::Never).unwrap();
    let line = |number| format!(r#"{{"sequence":{number},"event_type":"execution"}}"#).into_bytes();
    log.append(&mut entries((0..65_537).map(line))).unwrap();
    log.integrate().unwrap();
    assert_eq!(verify(folder.path()).faults, []);
    let path = folder.path().join("tile/2/000.p/1");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(verify(folder.path()).faults, [Fault::Hashes { first: 0, last: 65_535 }]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(verify(folder.path()).faults, [Fault::Hashes { first: 0, last: 65_535 }]);
}

#[test]
fn a_size_that_nobody_signed_does_not_keep_the_look_going() {
    let victim = Victim::new();
    victim.replace("checkpoint", "\n600\n", "\n9000000000000000000\n");
    let faults = verify(victim.folder.path()).faults;
    assert_eq!((faults.len(), faults.last()), (100, Some(&Fault::Signature)));
}

#[test]
fn leave_that_lets_itself_go_excuses_nothing() {
    let victim = Victim::new();
    let retention =
        RetentionPart { first_kept: 1024, reason: RetentionReason::Age, limit: 1, archived: false };
    let recorder = Recorder::open(&config(victim.folder.path())).unwrap();
    recorder.record(Record::of_retention(retention));
    recorder.close();
    victim.remove("tile/entries/000");
    assert_eq!(verify(victim.folder.path()).faults, [Fault::Missing { first: 0, last: 255 }]);
}

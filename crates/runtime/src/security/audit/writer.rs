//! The one writer: a thread that takes records as they come, writes them in groups, and moves them into the tree from time
//! to time. Whoever records does not wait for the disk; when the disk refuses, new executions are refused, and the
//! writer tries again with what it holds. Whoever wants a proof of a record waits for the next checkpoint, which is then
//! signed sooner.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use signed_note::StandardSigner;
use tokio::sync::oneshot;

use super::log::{AuditError, Log, MAX_RECORD_BYTES};
use super::proof::{self, Answer, ProofError, Proven, Wanted};
use super::{DecisionPart, Record};

/// Records that are written at once at most.
const MAX_GROUP: usize = 1024;
/// Records that wait for the disk, above which no new execution is let in.
const MAX_QUEUED: usize = 100_000;
/// Records that wait for their proofs, above which no further one is promised.
const MAX_PROVING: usize = 1000;
/// How long a writer whose disk refuses waits before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The least time between two checkpoints that are signed because somebody waits for a proof.
const PROVE_EVERY: Duration = Duration::from_millis(50);

/// How the log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// Where.
    pub folder: PathBuf,
    /// What the log calls itself in its checkpoints.
    pub origin: String,
    /// When the disk is waited for.
    pub sync: SyncMode,
    /// How often pending records are moved into the tree and its root is signed.
    pub checkpoint_every: Duration,
}

/// When the writer waits until the disk itself has what it wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// After each group of records.
    Group,
    /// With each checkpoint.
    #[default]
    Checkpoint,
    /// Never; the system decides.
    Never,
}

/// Where records are handed in. Clones lead to the same log.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    queue: mpsc::Sender<Message>,
    state: Arc<State>,
    signer: Signer,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The log's key, which says nothing of itself.
struct Signer(StandardSigner);

/// What the writer tells.
#[derive(Debug, Default)]
struct State {
    queued: AtomicUsize,
    proving: AtomicUsize,
    failing: AtomicBool,
}

enum Message {
    Record(Box<Record>),
    /// A record whose proof somebody waits for.
    Prove(Box<Record>, Answer),
    End,
}

impl Recorder {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// When the log cannot be used.
    pub fn open(config: &AuditConfig) -> Result<Self, AuditError> {
        let log = Log::open(&config.folder, &config.origin)?;
        let signer = Signer(log.signer().clone());
        let (queue, records) = mpsc::channel();
        let state = Arc::new(State::default());
        let writer = Writer {
            log,
            folder: config.folder.clone(),
            sync: config.sync,
            checkpoint_every: config.checkpoint_every,
            state: Arc::clone(&state),
            unwritten: Vec::new(),
            wanted: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("mentat-audit".into())
            .spawn(move || writer.run(&records))
            .map_err(|source| AuditError::File { path: config.folder.clone(), source })?;
        Ok(Self(Arc::new(Handle { queue, state, signer, thread: Mutex::new(Some(thread)) })))
    }

    /// Hands a record in. It is numbered when it is written.
    pub fn record(&self, record: Record) {
        self.0.state.queued.fetch_add(1, Ordering::Relaxed);
        // The writer ends after everybody who could record.
        let _ = self.0.queue.send(Message::Record(Box::new(record)));
    }

    /// Hands a record in, and answers its proof when it is in the tree. The answer does not come where the writer ends
    /// before.
    pub(crate) fn prove(&self, record: Record) -> oneshot::Receiver<Result<Proven, ProofError>> {
        let (answer, proof) = oneshot::channel();
        self.0.state.queued.fetch_add(1, Ordering::Relaxed);
        self.0.state.proving.fetch_add(1, Ordering::Relaxed);
        let _ = self.0.queue.send(Message::Prove(Box::new(record), answer));
        proof
    }

    /// Whether a proof can be promised: the log is written, and not too many wait for theirs.
    pub(crate) fn proves(&self) -> bool {
        self.accepts() && self.0.state.proving.load(Ordering::Relaxed) < MAX_PROVING
    }

    /// The key that signs checkpoints.
    pub(crate) fn signer(&self) -> &StandardSigner {
        &self.0.signer.0
    }

    /// Whether what is recorded now will be written: the disk takes records, and does so fast enough.
    #[must_use]
    pub fn accepts(&self) -> bool {
        let state = &self.0.state;
        !state.failing.load(Ordering::Relaxed) && state.queued.load(Ordering::Relaxed) < MAX_QUEUED
    }

    /// Writes what was handed in, signs the last checkpoint, and ends the writer.
    pub fn close(&self) {
        let _ = self.0.queue.send(Message::End);
        let thread = self.0.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            // A writer that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Signer")
    }
}

struct Writer {
    log: Log,
    folder: PathBuf,
    sync: SyncMode,
    checkpoint_every: Duration,
    state: Arc<State>,
    /// Records that the disk has refused so far.
    unwritten: Vec<Vec<u8>>,
    /// Records whose proofs are waited for.
    wanted: Vec<Wanted>,
}

impl Writer {
    fn run(mut self, records: &mpsc::Receiver<Message>) {
        let mut due = Instant::now() + self.checkpoint_every;
        // Of checkpoints that are waited for, the first may come at once.
        let mut prove_from = Instant::now();
        loop {
            let next = if self.wanted.is_empty() { due } else { due.min(prove_from) };
            let wait = if self.unwritten.is_empty() {
                next.saturating_duration_since(Instant::now())
            } else {
                RETRY_AFTER
            };
            let first = records.recv_timeout(wait);
            let ended = matches!(first, Ok(Message::End) | Err(RecvTimeoutError::Disconnected));
            let group = first.ok().into_iter().chain(records.try_iter()).take(MAX_GROUP);
            let mut is_last = ended;
            for message in group {
                match message {
                    Message::Record(record) => self.number(*record),
                    Message::Prove(record, answer) => self.number_wanted(*record, answer),
                    Message::End => is_last = true,
                }
            }
            self.write();
            let is_wanted = !self.wanted.is_empty() && Instant::now() >= prove_from;
            if is_last || is_wanted || Instant::now() >= due {
                self.integrate();
                due = Instant::now() + self.checkpoint_every;
                prove_from = Instant::now() + PROVE_EVERY;
            }
            if is_last {
                return;
            }
        }
    }

    /// Gives a record its number and its bytes.
    fn number(&mut self, mut record: Record) {
        record.sequence = self.log.next() + self.unwritten.len() as u64;
        let mut bytes = serde_json::to_vec(&record).unwrap_or_default();
        if bytes.len() > MAX_RECORD_BYTES {
            shorten(&mut record);
            bytes = serde_json::to_vec(&record).unwrap_or_default();
        }
        self.unwritten.push(bytes);
    }

    fn number_wanted(&mut self, record: Record, answer: Answer) {
        let index = self.log.next() + self.unwritten.len() as u64;
        self.number(record);
        let leaf = self.unwritten.last().cloned().unwrap_or_default();
        self.wanted.push(Wanted { index, leaf, answer });
    }

    fn write(&mut self) {
        if self.unwritten.is_empty() {
            return;
        }
        let count = self.unwritten.len();
        let written = self.log.append(self.unwritten.clone()).and_then(|()| match self.sync {
            SyncMode::Group => self.log.sync(),
            SyncMode::Checkpoint | SyncMode::Never => Ok(()),
        });
        self.settle("writing records", written.map(|()| count));
    }

    fn integrate(&mut self) {
        if !self.unwritten.is_empty() || !self.log.has_pending() {
            return;
        }
        let done = match self.sync {
            SyncMode::Never => Ok(()),
            SyncMode::Group | SyncMode::Checkpoint => self.log.sync(),
        };
        let done = done.and_then(|()| self.log.integrate());
        self.settle("signing a checkpoint", done.map(|()| 0));
        self.prove();
    }

    /// Answers who waits for a proof; all that are wanted are in the tree.
    fn prove(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        self.state.proving.fetch_sub(wanted.len(), Ordering::Relaxed);
        proof::answer(&self.folder, wanted);
    }

    /// Tells who waits for a proof that there is none for now: the disk may be full for hours.
    fn disappoint(&mut self) {
        self.state.proving.fetch_sub(self.wanted.len(), Ordering::Relaxed);
        for wanted in self.wanted.drain(..) {
            let _ = wanted.answer.send(Err(ProofError::Unwritten));
        }
    }

    /// Says once that the disk refuses, and once that it no longer does.
    fn settle(&mut self, what: &str, done: Result<usize, AuditError>) {
        let was_failing = self.state.failing.swap(done.is_err(), Ordering::Relaxed);
        if done.is_err() {
            self.disappoint();
        }
        match done {
            Ok(count) => {
                if count > 0 {
                    self.unwritten.clear();
                    self.state.queued.fetch_sub(count, Ordering::Relaxed);
                }
                if was_failing {
                    tracing::info!("the audit log is written again");
                }
            }
            Err(error) if !was_failing => {
                tracing::error!(%error, "{what} failed; executions are refused until the audit log can be written");
            }
            Err(_) => {}
        }
    }
}

/// Leaves out what a caller or a manifest can make long.
fn shorten(record: &mut Record) {
    record.execution.capabilities_requested = vec!["(left out: too long for one record)".into()];
    if let Some(DecisionPart { narrowing: Some(narrowing), .. }) = &mut record.security.decision {
        *narrowing = vec!["(left out: too long for one record)".into()];
    }
}

#[cfg(test)]
mod tests {
    use mentat_manifest::ModuleDigest;

    use super::*;
    use crate::model::ExecutionId;
    use crate::security::audit::{Ending, Fault, Report, check, read};
    use crate::security::principal::{Circumstances, Principal, Trust};

    fn config(folder: &std::path::Path) -> AuditConfig {
        AuditConfig {
            folder: folder.into(),
            origin: "test.log".into(),
            sync: SyncMode::Never,
            checkpoint_every: Duration::from_millis(5),
        }
    }

    fn record(caller: &str) -> Record {
        let principal = Principal {
            agent: "a.b".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            module: ModuleDigest::of(b""),
            tenant: "default".into(),
            trust: Trust::Untrusted,
            signer: None,
        };
        let circumstances = Circumstances {
            time: std::time::SystemTime::now(),
            execution: ExecutionId::new(),
            caller: caller.into(),
            narrowing: None,
        };
        Record::of_execution(&principal, &circumstances, &[], &Ending::default())
    }

    fn write(folder: &std::path::Path, count: usize) {
        let recorder = Recorder::open(&config(folder)).unwrap();
        for number in 0..count {
            recorder.record(record(&format!("caller-{number}")));
            if number % 100 == 0 {
                std::thread::sleep(Duration::from_millis(6));
            }
        }
        recorder.close();
    }

    fn verify(folder: &std::path::Path) -> Report {
        check(folder, None).unwrap()
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
        assert_eq!(records[1156].caller, "caller-599");
    }

    /// Changes one file of a log that has 600 records.
    fn tampered(change: impl FnOnce(&std::path::Path)) -> Report {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 600);
        assert_eq!(verify(folder.path()).faults, []);
        change(folder.path());
        verify(folder.path())
    }

    fn edit(path: PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }

    fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
    }

    #[test]
    fn a_changed_record_is_named() {
        let report = tampered(|folder| {
            edit(folder.join("tile/entries/001"), |bytes| replace(bytes, b"caller-300", b"caller-999"));
        });
        assert_eq!(report.faults, [Fault::Changed(300)]);
        // The hashes that it is compared with changed as well: the tree above them tells.
        let report = tampered(|folder| {
            edit(folder.join("tile/entries/001"), |bytes| replace(bytes, b"caller-300", b"caller-999"));
            let records: Vec<Vec<u8>> = super::super::verify::entries(folder, 1, 256).unwrap();
            let hashes: Vec<u8> =
                records.iter().flat_map(|record| tlog_tiles::record_hash(record).0).collect();
            std::fs::write(folder.join("tile/0/001"), hashes).unwrap();
        });
        assert_eq!(report.faults, [Fault::Tile { first: 256, last: 511 }]);
    }

    #[test]
    fn records_that_were_taken_out_or_swapped_are_named() {
        let report = tampered(|folder| {
            let mut records = super::super::verify::entries(folder, 0, 256).unwrap();
            records.swap(10, 11);
            write_entries(&folder.join("tile/entries/000"), &records);
        });
        assert_eq!(report.faults, [Fault::Changed(10), Fault::Changed(11)]);
        let report = tampered(|folder| {
            let mut records = super::super::verify::entries(folder, 2, 88).unwrap();
            records.remove(80);
            write_entries(&folder.join("tile/entries/002.p/88"), &records);
        });
        assert!(matches!(report.faults[0], Fault::Changed(592)), "{:?}", report.faults);
        assert!(report.faults.contains(&Fault::Missing { first: 599, last: 599 }), "{:?}", report.faults);
        let report = tampered(|folder| std::fs::remove_file(folder.join("tile/entries/001")).unwrap());
        assert_eq!(report.faults, [Fault::Missing { first: 256, last: 511 }]);
    }

    fn write_entries(path: &std::path::Path, records: &[Vec<u8>]) {
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend_from_slice(&u16::try_from(record.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(record);
        }
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_checkpoint_that_nobody_signed_and_a_log_that_was_cut_are_found() {
        let report = tampered(|folder| {
            edit(folder.join("checkpoint"), |bytes| replace(bytes, b"\n600\n", b"\n500\n"));
        });
        assert!(report.faults.contains(&Fault::Signature), "{:?}", report.faults);
        let report = tampered(|folder| std::fs::remove_file(folder.join("checkpoint")).unwrap());
        assert_eq!(report.faults, [Fault::NoCheckpoint]);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 300);
        let early = std::fs::read(folder.path().join("checkpoint")).unwrap();
        write(folder.path(), 300);
        assert_eq!(check(folder.path(), Some(&early)).unwrap().faults, []);
        let other = tempfile::tempdir().unwrap();
        write(other.path(), 400);
        for name in ["key", "key.pub"] {
            std::fs::copy(folder.path().join(name), other.path().join(name)).unwrap();
        }
        let faults = check(other.path(), Some(&early)).unwrap().faults;
        assert!(faults.contains(&Fault::Rewritten { size: 300 }), "{faults:?}");
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
        while std::fs::read_to_string(&pending).unwrap().matches('\n').count() < 10 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // As `kill -9` leaves it: the writer is never told to end.
        std::mem::forget(recorder);
        edit(pending, |bytes| bytes.truncate(bytes.len() - 5));
        // It may have been about to make the first tiles.
        std::fs::create_dir_all(folder.path().join("tile/entries")).unwrap();
        let report = verify(folder.path());
        assert_eq!((report.records, report.signed, report.torn), (9, 0, true));
        write(folder.path(), 1);
        let report = verify(folder.path());
        assert_eq!((report.records, report.signed, report.torn, report.faults), (10, 10, false, vec![]));
    }
}

//! The one writer: a thread that takes records as they come, writes them in groups, and moves them into the tree from time
//! to time. Whoever records does not wait for the disk; when the disk refuses, new executions are refused, and the
//! writer tries again with what it holds. Whoever wants a proof of a record waits for the next checkpoint, which is then
//! signed sooner.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use signed_note::StandardSigner;
use tokio::sync::oneshot;

use super::config::{AuditConfig, OnAuditFailure, SyncMode};
use super::entries::Entries;
use super::log::{AuditError, Log, broken};
use super::proof::{self, Answer, ProofError, Proven, Wanted};
use super::redaction::Redaction;
use super::retention::Retention;
use super::{Ended, Record, shortening};

/// Records that are written at once at most.
const MAX_GROUP: usize = 1024;
/// Records that wait for the disk, above which nothing new is let in.
const MAX_QUEUED: usize = 100_000;
/// Records that wait for the disk at most. Where unaudited executions are let in, further ones are counted instead.
const MAX_KEPT: usize = 2 * MAX_QUEUED;
/// Records that wait for their proofs, above which no further one is promised.
const MAX_PROVING: usize = 1000;
/// How long records are gathered before they are written. Nobody waits for them but who wants a receipt, which takes longer.
const GATHER_FOR: Duration = Duration::from_millis(1);
/// How long a writer whose disk refuses waits before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Checkpoints in a row with few records, after which the memory that it took to write many is given back.
const REST_AFTER: u32 = 30;
/// Bytes of records that are few in any case.
const FEW_BYTES: usize = 256 << 10;
/// The least time between two checkpoints that are signed because somebody waits for a proof.
const PROVE_EVERY: Duration = Duration::from_millis(50);

/// Where records are handed in. Clones lead to the same log.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    queue: mpsc::Sender<Message>,
    state: Arc<State>,
    signer: Signer,
    on_failure: OnAuditFailure,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The log's key, which says nothing of itself.
struct Signer(StandardSigner);

/// What the writer tells.
#[derive(Debug, Default)]
struct State {
    queued: AtomicUsize,
    proving: AtomicUsize,
    /// Records that nobody keeps any longer.
    lost: AtomicU64,
    failing: AtomicBool,
}

/// Held by the writer. When it goes, however it does, nothing is written any more, and nothing is let in.
struct Alive(Arc<State>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.failing.store(true, Ordering::Relaxed);
    }
}

#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind, and a box would be one more for each"
)]
enum Message {
    Record(Box<Record>),
    Ended(Ended),
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
        let (queue, records) = mpsc::channel();
        let state = Arc::new(State::default());
        let writer = Writer::open(config, Arc::clone(&state))?;
        let signer = Signer(writer.log.signer().clone());
        let (on_failure, alive) = (config.on_failure, Alive(Arc::clone(&state)));
        let thread = std::thread::Builder::new()
            .name("mentat-audit".into())
            .spawn(move || {
                let _alive = alive;
                writer.run(&records);
            })
            .map_err(|source| AuditError::File { path: config.folder.clone(), source })?;
        Ok(Self(Arc::new(Handle { queue, state, signer, on_failure, thread: Mutex::new(Some(thread)) })))
    }

    /// Hands a record in. It is numbered when it is written.
    pub fn record(&self, record: Record) {
        self.hand_in(|| Message::Record(Box::new(record)));
    }

    /// Hands in an execution that has ended. Its record is made where nobody waits for it.
    pub(crate) fn record_ended(&self, ended: Ended) {
        self.hand_in(|| Message::Ended(ended));
    }

    fn hand_in(&self, message: impl FnOnce() -> Message) {
        if self.0.state.queued.fetch_add(1, Ordering::Relaxed) >= MAX_KEPT {
            self.0.state.queued.fetch_sub(1, Ordering::Relaxed);
            self.0.state.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The writer ends after everybody who could record.
        let _ = self.0.queue.send(message());
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

    /// Whether anything that is to be on record may be done now: what is recorded will be written, or the operator has it
    /// done all the same.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.0.on_failure == OnAuditFailure::Continue || self.accepts()
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
    on_failure: OnAuditFailure,
    state: Arc<State>,
    /// Records that the disk has refused so far.
    unwritten: Entries,
    /// When a disk that refused is asked again.
    retry_at: Option<Instant>,
    /// Whether the disk has not said yet that it has what was written.
    needs_sync: bool,
    /// Records whose proofs are waited for.
    wanted: Vec<Wanted>,
    /// Checkpoints in a row with few records.
    quiet: u32,
    redaction: Redaction,
    retention: Retention,
    /// Whether retention did its part the last time.
    is_retaining: bool,
}

impl Writer {
    fn open(config: &AuditConfig, state: Arc<State>) -> Result<Self, AuditError> {
        let log = Log::open(&config.folder, &config.origin, config.sync)?;
        let redaction = Redaction::new(&config.sensitive)
            .map_err(|error| broken(&config.folder, format!("the values to keep out of it: {error}")))?;
        let retention = Retention::new(config.retention.clone(), &log)?;
        Ok(Self {
            log,
            folder: config.folder.clone(),
            sync: config.sync,
            checkpoint_every: config.checkpoint_every,
            on_failure: config.on_failure,
            state,
            unwritten: Entries::default(),
            retry_at: None,
            needs_sync: false,
            wanted: Vec::new(),
            quiet: 0,
            redaction,
            retention,
            is_retaining: true,
        })
    }

    fn run(mut self, records: &mpsc::Receiver<Message>) {
        let mut due = Instant::now() + self.checkpoint_every;
        // Of checkpoints that are waited for, the first may come at once.
        let mut prove_from = Instant::now();
        let mut is_busy = false;
        loop {
            let next = if self.wanted.is_empty() { due } else { due.min(prove_from) };
            let wait = self.retry_at.unwrap_or(next).saturating_duration_since(Instant::now());
            let first = next_message(records, is_busy, wait);
            is_busy = matches!(first, Ok(Message::Record(_) | Message::Ended(_)));
            let ended = matches!(first, Ok(Message::End) | Err(RecvTimeoutError::Disconnected));
            let group = first.ok().into_iter().chain(records.try_iter()).take(MAX_GROUP);
            let mut is_last = ended;
            for message in group {
                match message {
                    Message::Record(record) => {
                        self.number(*record);
                    }
                    Message::Ended(ended) => self.number_ended(&ended),
                    Message::Prove(record, answer) => self.number_wanted(*record, answer),
                    Message::End => is_last = true,
                }
            }
            if is_last || self.retry_at.is_none_or(|at| at <= Instant::now()) {
                self.write();
            } else {
                self.disappoint();
            }
            let is_wanted = !self.wanted.is_empty() && Instant::now() >= prove_from;
            if is_last || is_wanted || Instant::now() >= due {
                self.integrate();
                self.retain();
                due = Instant::now() + self.checkpoint_every;
                prove_from = Instant::now() + PROVE_EVERY;
            }
            if is_last {
                return;
            }
        }
    }

    /// The number of the next record.
    fn next(&self) -> u64 {
        self.log.next() + self.unwritten.len() as u64
    }

    /// Gives a record its number and its bytes; answers whether it could be made short enough.
    fn number(&mut self, mut record: Record) -> bool {
        self.redaction.apply(&mut record);
        record.sequence = self.next();
        let is_short = self.unwritten.push(&shortening::bytes(record));
        if !is_short {
            tracing::error!("a record is too long for the audit log, and is counted as lost");
            self.state.queued.fetch_sub(1, Ordering::Relaxed);
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
        is_short
    }

    /// Does the same with an ended execution; straight, where nothing of it is to be replaced or left out.
    fn number_ended(&mut self, ended: &Ended) {
        let number = self.next();
        if self.redaction.replaces() || !self.unwritten.push_with(|bytes| ended.write(number, bytes)) {
            self.number(Record::from(ended));
        }
    }

    fn number_wanted(&mut self, record: Record, answer: Answer) {
        let index = self.next();
        if self.number(record) {
            let leaf = self.unwritten.last().unwrap_or_default().to_vec();
            self.wanted.push(Wanted { index, leaf, answer });
        } else {
            self.state.proving.fetch_sub(1, Ordering::Relaxed);
            let _ = answer.send(Err(ProofError::Unwritten));
        }
    }

    fn write(&mut self) {
        if self.unwritten.is_empty() && !self.needs_sync {
            return;
        }
        let written = self.append().and_then(|()| self.sync());
        self.retry_at = written.is_err().then(|| Instant::now() + RETRY_AFTER);
        self.settle("writing records", written);
        self.confess();
    }

    /// Says in the log how many records it has not, as soon as it can be written again.
    fn confess(&mut self) {
        let lost = if self.retry_at.is_some() { 0 } else { self.state.lost.swap(0, Ordering::Relaxed) };
        if lost > 0 {
            tracing::warn!(
                lost,
                "there were more records than could be kept while the audit log was not written"
            );
            self.state.queued.fetch_add(1, Ordering::Relaxed);
            self.number(Record::of_loss(lost));
            self.write();
        }
    }

    fn append(&mut self) -> Result<(), AuditError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let records = self.unwritten.len();
        self.log.append(&mut self.unwritten)?;
        // From here on they are the log's, whatever the disk says next: written again, they would stand in it twice.
        self.state.queued.fetch_sub(records, Ordering::Relaxed);
        self.needs_sync = self.sync == SyncMode::Group;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), AuditError> {
        if self.needs_sync {
            self.log.sync()?;
            self.needs_sync = false;
        }
        Ok(())
    }

    fn integrate(&mut self) {
        if !self.unwritten.is_empty() {
            return;
        }
        self.rest();
        if !self.log.has_pending() {
            return;
        }
        let done = match self.sync {
            SyncMode::Never => Ok(()),
            SyncMode::Group | SyncMode::Checkpoint => self.log.sync(),
        };
        let done = done.and_then(|()| self.log.integrate());
        self.settle("signing a checkpoint", done);
        self.prove();
    }

    /// Gives back the memory that it took to write many records, when few have come for a while.
    fn rest(&mut self) {
        let (used, room) = self.log.room();
        self.quiet = if room / 4 > used.max(FEW_BYTES) { self.quiet.saturating_add(1) } else { 0 };
        if self.quiet >= REST_AFTER {
            self.quiet = 0;
            self.unwritten.shrink();
            self.log.shrink();
        }
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

    /// Takes out what is old, or first writes the record that allows it.
    fn retain(&mut self) {
        if !self.unwritten.is_empty() {
            return;
        }
        let done = self.retention.round(&self.log);
        let was_retaining = std::mem::replace(&mut self.is_retaining, done.is_ok());
        match done {
            Ok(Some(retention)) => {
                self.state.queued.fetch_add(1, Ordering::Relaxed);
                self.number(Record::of_retention(retention));
                self.write();
                self.integrate();
            }
            Ok(None) => {}
            Err(error) if was_retaining => {
                tracing::error!(%error, "old records stay in the audit log until they can be taken out");
            }
            Err(_) => {}
        }
    }

    /// Says once that the disk refuses, and once that it no longer does.
    fn settle(&mut self, what: &str, done: Result<(), AuditError>) {
        let was_failing = self.state.failing.swap(done.is_err(), Ordering::Relaxed);
        if done.is_err() {
            self.disappoint();
        }
        match done {
            Ok(()) if was_failing => tracing::info!("the audit log is written again"),
            Ok(()) => {}
            Err(error) if !was_failing => {
                let then = match self.on_failure {
                    OnAuditFailure::Refuse => "executions are refused",
                    OnAuditFailure::Continue => "executions go on, and their records wait,",
                };
                tracing::error!(%error, "{what} failed; {then} until the audit log can be written");
            }
            Err(_) => {}
        }
    }
}

/// The next message. Of a log that is written to all the time it is looked for now and then: so nobody has a writer to
/// wake, which would cost more than the record.
fn next_message(
    records: &mpsc::Receiver<Message>,
    is_busy: bool,
    wait: Duration,
) -> Result<Message, RecvTimeoutError> {
    if is_busy {
        std::thread::sleep(GATHER_FOR);
        if let Ok(next) = records.try_recv() {
            return Ok(next);
        }
    }
    let first = records.recv_timeout(wait);
    if matches!(first, Ok(Message::Record(_) | Message::Ended(_))) {
        std::thread::sleep(GATHER_FOR);
    }
    first
}

#[cfg(test)]
mod tests;

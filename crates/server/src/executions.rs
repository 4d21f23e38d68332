//! Who is running, and who ran lately: what `GetExecution` answers and `CancelExecution` reaches.
//! Bounded; a record belongs to its tenant and is invisible to others.

use std::collections::{HashMap, VecDeque, hash_map};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mentat_manifest::{AgentId, AgentVersion};
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::model::{Caller, ExecutionId, Outcome, Usage};
use parking_lot::Mutex;
use slab::Slab;
use tokio_util::sync::CancellationToken;

/// Bytes of the receipts that are kept, over all tenants; the oldest go first.
const MAX_RECEIPTS_BYTES: usize = 64 << 20;
/// Parts of the table, each with a lock of its own, so that executions which begin and end do not wait for each other.
const PARTS: usize = 64;
/// Executions that a part remembers at least, so that a short memory is not cut into pieces.
const REMEMBERED_BY_PART: usize = 100;

/// Running and lately finished executions.
#[derive(Debug)]
pub struct Executions {
    parts: [Mutex<Table>; PARTS],
    /// How many of them are used.
    used: usize,
    hasher: RandomState,
    /// By each part.
    remembered: usize,
    receipts_bytes: usize,
}

/// One execution, running or finished.
#[derive(Clone, Debug)]
pub struct ExecutionRecord {
    /// Its id.
    pub execution_id: ExecutionId,
    /// The agent it runs.
    pub agent_id: AgentId,
    /// The version of the agent.
    pub version: AgentVersion,
    /// On whose behalf.
    pub caller: Caller,
    /// When it was asked for.
    pub started: SystemTime,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// Its receipt, where one was made and is still kept.
    pub receipt: Option<Bytes>,
}

/// Where an execution stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecutionStatus {
    /// Waiting for a place, or running.
    Running,
    /// The guest ran to its end.
    Finished {
        /// The guest's own verdict.
        exit_code: i32,
        /// What it cost.
        usage: Usage,
        /// From being asked for to its end.
        duration: Duration,
    },
    /// The guest did not run to its end.
    Failed {
        /// Which row of the error table.
        reason: Reason,
        /// The sentence that the caller was given.
        message: String,
        /// What it cost.
        usage: Usage,
        /// From being asked for to its end.
        duration: Duration,
    },
}

/// An execution among those of all tenants: ids are the callers', who know nothing of each other.
type Key = (Arc<str>, ExecutionId);

#[derive(Debug, Default)]
struct Table {
    entries: Slab<Entry>,
    /// Where each stands among them.
    places: HashMap<Key, usize>,
    finished: VecDeque<usize>,
    /// Whose receipts are kept, the oldest first, and how many bytes they have.
    receipts: VecDeque<(Key, usize)>,
    receipts_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    record: ExecutionRecord,
    cancel: CancellationToken,
}

impl Table {
    fn get(&mut self, key: &Key) -> Option<&mut Entry> {
        self.entries.get_mut(*self.places.get(key)?)
    }

    fn forget(&mut self, place: usize) {
        if let Some(Entry { record, .. }) = self.entries.try_remove(place) {
            self.places.remove(&record.key());
        }
    }
}

impl ExecutionRecord {
    fn key(&self) -> Key {
        (Arc::clone(&self.caller.tenant), self.execution_id)
    }
}

/// An execution's place in the table; it is marked as cancelled when dropped before its end, as
/// happens when the service ends before the execution does.
#[derive(Debug)]
pub struct Running {
    executions: Arc<Executions>,
    part: usize,
    place: usize,
    cancel: CancellationToken,
    since: std::time::Instant,
    ended: bool,
}

impl Executions {
    /// A table that remembers this many finished executions.
    #[must_use]
    pub fn new(remembered: usize) -> Self {
        let parts = (remembered / REMEMBERED_BY_PART).clamp(1, PARTS);
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            used: parts,
            hasher: RandomState::new(),
            remembered: remembered.div_ceil(parts),
            receipts_bytes: MAX_RECEIPTS_BYTES / parts,
        }
    }

    fn part_of(&self, key: &Key) -> usize {
        usize::try_from(self.hasher.hash_one(key) % self.used as u64).unwrap_or_default()
    }

    fn part(&self, number: usize) -> &Mutex<Table> {
        let [first, ..] = &self.parts;
        self.parts.get(number).unwrap_or(first)
    }

    /// Enters an execution.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when its id is in the table already, as one of the same tenant's.
    pub fn begin(self: &Arc<Self>, record: ExecutionRecord) -> Result<Running, Error> {
        let cancel = CancellationToken::new();
        let key = record.key();
        let part = self.part_of(&key);
        let mut table = self.part(part).lock();
        let Table { entries, places, .. } = &mut *table;
        let hash_map::Entry::Vacant(vacant) = places.entry(key) else {
            return Err(Error::InvalidRequest {
                message: format!(
                    "execution_id `{}` was used before; each execution needs a new one",
                    record.execution_id
                ),
            });
        };
        let place = *vacant.insert(entries.insert(Entry { record, cancel: cancel.clone() }));
        drop(table);
        let since = std::time::Instant::now();
        Ok(Running { executions: Arc::clone(self), part, place, cancel, since, ended: false })
    }

    /// The record, if it is the caller's tenant's.
    ///
    /// # Errors
    /// `EXECUTION_NOT_FOUND`.
    pub fn get(&self, caller: &Caller, execution_id: ExecutionId) -> Result<ExecutionRecord, Error> {
        let key = (Arc::clone(&caller.tenant), execution_id);
        let found = self.part(self.part_of(&key)).lock().get(&key).map(|entry| entry.record.clone());
        found.ok_or_else(|| Error::ExecutionNotFound { execution_id: execution_id.to_string() })
    }

    /// Ends an execution of the caller's tenant; one that has ended is left as it is.
    ///
    /// # Errors
    /// `EXECUTION_NOT_FOUND`.
    pub fn cancel(&self, caller: &Caller, execution_id: ExecutionId) -> Result<ExecutionRecord, Error> {
        let record = self.get(caller, execution_id)?;
        let key = (Arc::clone(&caller.tenant), execution_id);
        if let Some(entry) = self.part(self.part_of(&key)).lock().get(&key) {
            entry.cancel.cancel();
        }
        Ok(record)
    }

    /// Keeps the receipt of an execution that has ended, for as long as there is room and its record is kept.
    pub fn keep_receipt(&self, caller: &Caller, execution_id: ExecutionId, receipt: Bytes) {
        let key = (Arc::clone(&caller.tenant), execution_id);
        let mut table = self.part(self.part_of(&key)).lock();
        let Some(entry) = table.get(&key) else { return };
        let bytes = receipt.len();
        entry.record.receipt = Some(receipt);
        table.receipts.push_back((key, bytes));
        table.receipts_bytes += bytes;
        while table.receipts_bytes > self.receipts_bytes
            && let Some((oldest, bytes)) = table.receipts.pop_front()
        {
            table.receipts_bytes -= bytes;
            if let Some(entry) = table.get(&oldest) {
                entry.record.receipt = None;
            }
        }
    }

    fn end(&self, part: usize, place: usize, status: ExecutionStatus) {
        let mut table = self.part(part).lock();
        if let Some(entry) = table.entries.get_mut(place) {
            entry.record.status = status;
            table.finished.push_back(place);
        }
        while table.finished.len() > self.remembered {
            if let Some(oldest) = table.finished.pop_front() {
                table.forget(oldest);
            }
        }
    }
}

impl Running {
    /// Cancelled when someone cancels this execution.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Records how it ended.
    pub fn end(mut self, outcome: &Outcome) {
        let duration = self.since.elapsed();
        let usage = outcome.usage;
        let status = match &outcome.result {
            Ok(answer) => ExecutionStatus::Finished { exit_code: answer.exit_code, usage, duration },
            Err(error) => ExecutionStatus::Failed {
                reason: error.reason(),
                message: error.to_string(),
                usage,
                duration,
            },
        };
        self.executions.end(self.part, self.place, status);
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let status = ExecutionStatus::Failed {
                reason: Reason::Cancelled,
                message: Error::Cancelled.to_string(),
                usage: Usage::default(),
                duration: self.since.elapsed(),
            };
            self.executions.end(self.part, self.place, status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ExecutionRecord {
        ExecutionRecord {
            execution_id: ExecutionId::new(),
            agent_id: "a.b".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            caller: Caller::local(),
            started: SystemTime::now(),
            status: ExecutionStatus::Running,
            receipt: None,
        }
    }

    #[test]
    fn an_execution_that_is_dropped_is_cancelled() {
        let executions = Arc::new(Executions::new(10));
        let record = record();
        let running = executions.begin(record.clone()).unwrap();
        drop(running);
        let found = executions.get(&record.caller, record.execution_id).unwrap();
        assert!(matches!(found.status, ExecutionStatus::Failed { reason: Reason::Cancelled, .. }));
    }

    #[test]
    fn forgets_the_oldest_and_refuses_an_id_twice() {
        let executions = Arc::new(Executions::new(1));
        let (first, second) = (record(), record());
        let running = executions.begin(first.clone()).unwrap();
        assert!(matches!(executions.begin(first.clone()), Err(Error::InvalidRequest { .. })));
        drop(running);
        drop(executions.begin(second.clone()).unwrap());
        assert!(executions.get(&first.caller, first.execution_id).is_err());
        assert!(executions.get(&second.caller, second.execution_id).is_ok());
    }

    #[test]
    fn receipts_are_kept_within_their_bytes_and_the_oldest_go() {
        let executions = Arc::new(Executions::new(10));
        let records = [record(), record(), record()];
        let receipt = Bytes::from(vec![0; MAX_RECEIPTS_BYTES / 2]);
        for record in &records {
            drop(executions.begin(record.clone()).unwrap());
            executions.keep_receipt(&record.caller, record.execution_id, receipt.clone());
        }
        let kept = records
            .map(|record| executions.get(&record.caller, record.execution_id).unwrap().receipt.is_some());
        assert_eq!(kept, [false, true, true]);
    }

    #[test]
    fn another_tenant_sees_nothing() {
        let executions = Arc::new(Executions::new(1));
        let record = record();
        let _running = executions.begin(record.clone()).unwrap();
        let other = Caller { tenant: "other".into(), name: "x".into() };
        assert!(executions.get(&other, record.execution_id).is_err());
        assert!(executions.cancel(&other, record.execution_id).is_err());
        // Nor that the id is taken.
        let theirs = ExecutionRecord { caller: other.clone(), ..record.clone() };
        let _running = executions.begin(theirs).unwrap();
        executions.keep_receipt(&other, record.execution_id, Bytes::from_static(b"theirs"));
        assert_eq!(executions.get(&record.caller, record.execution_id).unwrap().receipt, None);
    }
}

//! Who is running, and who ran lately: what `GetExecution` answers and `CancelExecution` reaches.
//! Bounded; a record belongs to its tenant and is invisible to others.

mod listing;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hashbrown::HashTable;
use mentat_manifest::{AgentId, AgentVersion, RuntimeKind};
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::events::{EventBuffer, EventLimits, EventReader, EventRoom};
use mentat_runtime::model::{Answer, Caller, Ended, ExecutionId, Failure, Outcome, Usage};
use parking_lot::Mutex;
use slab::Slab;
use tokio_util::sync::CancellationToken;

pub use listing::{ExecutionPage, ExecutionState};

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
    /// What is kept of each one's events.
    event_limits: EventLimits,
    /// Where they are kept when it has ended.
    room: Arc<EventRoom>,
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
    /// What executes it.
    pub runtime: RuntimeKind,
    /// On whose behalf.
    pub caller: Caller,
    /// When it was asked for.
    pub started: SystemTime,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// Its receipt, where one was made and is still kept.
    pub receipt: Option<Bytes>,
    /// The number of the event that told its end.
    pub end_sequence: u64,
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

/// Where an execution is looked for.
#[derive(Clone, Copy, Debug)]
struct Look<'a> {
    tenant: &'a str,
    id: ExecutionId,
    /// Of both.
    hash: u64,
    /// Which part of the table it is in, where it is in any.
    part: usize,
}

#[derive(Debug, Default)]
struct Table {
    entries: Slab<Entry>,
    /// Where each stands among them, by its hash.
    places: HashTable<usize>,
    finished: VecDeque<usize>,
    /// Whose receipts are kept, the oldest first, and how many bytes they have.
    receipts: VecDeque<(Key, usize)>,
    receipts_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    record: ExecutionRecord,
    hash: u64,
    /// What ends it before its own end. Made when it is first needed: most executions are over before that. Gone once it has
    /// ended.
    cancel: Option<CancellationToken>,
    /// What it says, made likewise; gone once it has ended, to where that is kept.
    events: Option<Arc<EventBuffer>>,
}

impl Table {
    fn get(&mut self, look: Look<'_>) -> Option<&mut Entry> {
        let Self { entries, places, .. } = self;
        let place = *places.find(look.hash, |place| {
            entries.get(*place).is_some_and(|entry| entry.is(look.tenant, look.id))
        })?;
        entries.get_mut(place)
    }

    /// Enters an execution; answers where, or nothing where it is there already.
    fn enter(&mut self, entry: Entry) -> Option<usize> {
        let Self { entries, places, .. } = self;
        let (hash, record) = (entry.hash, &entry.record);
        let is_same = |other: &Entry| other.is(&record.caller.tenant, record.execution_id);
        if places.find(hash, |place| entries.get(*place).is_some_and(is_same)).is_some() {
            return None;
        }
        let place = entries.insert(entry);
        places.insert_unique(hash, place, |place| entries.get(*place).map_or(0, |entry| entry.hash));
        Some(place)
    }

    fn forget(&mut self, place: usize) {
        if let Some(Entry { hash, .. }) = self.entries.try_remove(place)
            && let Ok(found) = self.places.find_entry(hash, |other| *other == place)
        {
            found.remove();
        }
    }
}

impl Entry {
    fn is(&self, tenant: &str, id: ExecutionId) -> bool {
        self.record.execution_id == id && *self.record.caller.tenant == *tenant
    }

    fn is_running(&self) -> bool {
        self.record.status == ExecutionStatus::Running
    }

    fn token(&mut self) -> &CancellationToken {
        self.cancel.get_or_insert_with(CancellationToken::new)
    }
}

impl ExecutionRecord {
    /// How it ended, as far as that is remembered.
    fn ended(&self) -> Option<Ended> {
        let (result, usage) = match &self.status {
            ExecutionStatus::Running => return None,
            ExecutionStatus::Finished { exit_code, usage, .. } => {
                (Ok(Answer { output: Bytes::new(), exit_code: *exit_code }), *usage)
            }
            ExecutionStatus::Failed { reason, message, usage, .. } => {
                let (reason, message) = (*reason, message.clone());
                (Err(Failure { reason, message, details: Vec::new(), retry_after: None }), *usage)
            }
        };
        let version = self.version.clone();
        Some(Ended { version, result, output_left_out: true, usage, logs_dropped: 0 })
    }
}

/// An execution's place in the table; it is marked as cancelled when dropped before its end, as
/// happens when the service ends before the execution does.
#[derive(Debug)]
pub struct Running {
    executions: Arc<Executions>,
    id: ExecutionId,
    part: usize,
    place: usize,
    since: std::time::Instant,
    ended: bool,
}

impl Executions {
    /// A table that remembers this many finished executions, and what they said within the room for that.
    #[must_use]
    pub fn new(remembered: usize, event_limits: EventLimits, room: Arc<EventRoom>) -> Self {
        let parts = (remembered / REMEMBERED_BY_PART).clamp(1, PARTS);
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            used: parts,
            hasher: RandomState::new(),
            remembered: remembered.div_ceil(parts),
            receipts_bytes: MAX_RECEIPTS_BYTES / parts,
            event_limits,
            room,
        }
    }

    /// A place for the events of an execution that is to begin.
    #[must_use]
    pub fn events(&self, caller: &Caller, agent: &AgentId) -> Arc<EventBuffer> {
        let (tenant, room) = (Arc::clone(&caller.tenant), Arc::clone(&self.room));
        Arc::new(EventBuffer::new(self.event_limits, tenant, agent.clone(), room))
    }

    fn events_of<'a>(&self, entry: &'a mut Entry) -> &'a Arc<EventBuffer> {
        let Entry { record, events, .. } = entry;
        events.get_or_insert_with(|| self.events(&record.caller, &record.agent_id))
    }

    /// Where events are kept.
    #[must_use]
    pub fn room(&self) -> &EventRoom {
        &self.room
    }

    fn look<'a>(&self, tenant: &'a str, id: ExecutionId) -> Look<'a> {
        let hash = self.hasher.hash_one((tenant, id));
        // By other bits than those that a part tells its own by.
        let part = usize::try_from((hash >> 32) % self.used as u64).unwrap_or_default();
        Look { tenant, id, hash, part }
    }

    fn part(&self, number: usize) -> &Mutex<Table> {
        let [first, ..] = &self.parts;
        self.parts.get(number).unwrap_or(first)
    }

    /// Enters an execution, with the place for its events where there is one already.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when its id is in the table already, as one of the same tenant's.
    pub fn begin(
        self: &Arc<Self>,
        record: ExecutionRecord,
        events: Option<Arc<EventBuffer>>,
    ) -> Result<Running, Error> {
        let id = record.execution_id;
        let Look { part, hash, .. } = self.look(&record.caller.tenant, id);
        let entered = self.part(part).lock().enter(Entry { record, hash, cancel: None, events });
        let place = entered.ok_or_else(|| Error::InvalidRequest {
            message: format!("execution_id `{id}` was used before; each execution needs a new one"),
        })?;
        let since = std::time::Instant::now();
        Ok(Running { executions: Arc::clone(self), id, part, place, since, ended: false })
    }

    /// Reads what an execution says, from the event of that number on. Of one that has ended, as long as that is kept, and
    /// then how it ended, as long as that is remembered.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`.
    pub fn follow(
        &self,
        caller: &Caller,
        execution_id: ExecutionId,
        from_sequence: u64,
    ) -> Result<EventReader, Error> {
        let look = self.look(&caller.tenant, execution_id);
        let mut table = self.part(look.part).lock();
        let mut entry = table.get(look);
        if let Some(running) = entry.as_mut().filter(|entry| entry.is_running()) {
            return Ok(self.events_of(running).read_from(from_sequence));
        }
        if let Some(events) = self.room.find(&caller.tenant, execution_id) {
            return Ok(events.read_from(from_sequence));
        }
        let record = entry.map(|entry| entry.record.clone());
        drop(table);
        let unknown = || Error::StreamNotFound { stream_id: execution_id.to_string() };
        let record = record.ok_or_else(unknown)?;
        let (tenant, room) = (Arc::clone(&caller.tenant), Arc::clone(&self.room));
        let events = EventBuffer::new(self.event_limits, tenant, record.agent_id.clone(), room);
        let events = Arc::new(events.going_on_at(record.end_sequence));
        events.end(record.ended().ok_or_else(unknown)?);
        Ok(events.read_from(from_sequence))
    }

    /// The record, if it is the caller's tenant's.
    ///
    /// # Errors
    /// `EXECUTION_NOT_FOUND`.
    pub fn get(&self, caller: &Caller, execution_id: ExecutionId) -> Result<ExecutionRecord, Error> {
        let look = self.look(&caller.tenant, execution_id);
        let found = self.part(look.part).lock().get(look).map(|entry| entry.record.clone());
        found.ok_or_else(|| Error::ExecutionNotFound { execution_id: execution_id.to_string() })
    }

    /// Ends an execution of the caller's tenant; one that has ended is left as it is.
    ///
    /// # Errors
    /// `EXECUTION_NOT_FOUND`.
    pub fn cancel(&self, caller: &Caller, execution_id: ExecutionId) -> Result<ExecutionRecord, Error> {
        let record = self.get(caller, execution_id)?;
        let look = self.look(&caller.tenant, execution_id);
        let cancel = {
            let mut table = self.part(look.part).lock();
            let running = table.get(look).filter(|entry| entry.is_running());
            running.map(|entry| entry.token().clone())
        };
        if let Some(cancel) = cancel {
            cancel.cancel();
        }
        Ok(record)
    }

    /// Keeps the receipt of an execution that has ended, for as long as there is room and its record is kept.
    pub fn keep_receipt(&self, caller: &Caller, execution_id: ExecutionId, receipt: Bytes) {
        let look = self.look(&caller.tenant, execution_id);
        let mut table = self.part(look.part).lock();
        let Some(entry) = table.get(look) else { return };
        let bytes = receipt.len();
        entry.record.receipt = Some(receipt);
        let key = (Arc::clone(&caller.tenant), execution_id);
        table.receipts.push_back((key, bytes));
        table.receipts_bytes += bytes;
        while table.receipts_bytes > self.receipts_bytes
            && let Some(((tenant, id), bytes)) = table.receipts.pop_front()
        {
            table.receipts_bytes -= bytes;
            if let Some(entry) = table.get(self.look(&tenant, id)) {
                entry.record.receipt = None;
            }
        }
    }

    /// Ends all executions that run.
    pub fn cancel_all(&self) {
        for part in &self.parts {
            let running: Vec<CancellationToken> = {
                let mut table = part.lock();
                let running = table.entries.iter_mut().filter(|(_, entry)| entry.is_running());
                running.map(|(_, entry)| entry.token().clone()).collect()
            };
            running.iter().for_each(CancellationToken::cancel);
        }
    }

    /// Answers where somebody reads, or can read, what the execution said, and its version.
    fn end(
        &self,
        part: usize,
        place: usize,
        status: ExecutionStatus,
    ) -> Option<(AgentVersion, Arc<EventBuffer>)> {
        let mut read = None;
        let mut table = self.part(part).lock();
        let gone = table.entries.get_mut(place).map(|Entry { record, cancel, events, .. }| {
            record.status = status;
            let events = events.take();
            record.end_sequence = events.as_ref().map_or(0, |events| events.counts().0);
            if let Some(events) = events.as_ref().filter(|events| !events.is_unused()) {
                // Before the table is free: who looks for them finds them here or there.
                self.room.keep(&record.caller.tenant, record.execution_id, Arc::clone(events));
                read = Some((record.version.clone(), Arc::clone(events)));
            }
            (cancel.take(), events)
        });
        if gone.is_some() {
            table.finished.push_back(place);
        }
        while table.finished.len() > self.remembered {
            if let Some(oldest) = table.finished.pop_front() {
                table.forget(oldest);
            }
        }
        // Nobody need wait while they go.
        drop(table);
        drop(gone);
        read
    }

    /// Does something with the entry of an execution, which is there until that has ended.
    fn running<T>(&self, part: usize, place: usize, with: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.part(part).lock().entries.get_mut(place).map(with)
    }
}

impl Running {
    /// The execution's id.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.id
    }

    /// Cancelled when someone cancels this execution, or has done so.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        let token = self.executions.running(self.part, self.place, |entry| entry.token().clone());
        token.unwrap_or_default()
    }

    /// Whether someone has cancelled this execution.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let is_cancelled =
            |entry: &mut Entry| entry.cancel.as_ref().is_some_and(CancellationToken::is_cancelled);
        self.executions.running(self.part, self.place, is_cancelled).unwrap_or_default()
    }

    /// Where it says what it has to say.
    #[must_use]
    pub fn events(&self) -> Option<Arc<EventBuffer>> {
        let executions = &self.executions;
        executions.running(self.part, self.place, |entry| Arc::clone(executions.events_of(entry)))
    }

    /// Records how it ended, and tells those who follow it.
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
        self.ended = true;
        if let Some((version, events)) = self.executions.end(self.part, self.place, status) {
            let result = outcome.result.as_ref().cloned().map_err(Failure::from);
            let logs_dropped = outcome.logs_dropped;
            events.end(Ended { version, result, output_left_out: false, usage, logs_dropped });
        }
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
            if let Some((version, events)) = self.executions.end(self.part, self.place, status) {
                let (usage, result) = (Usage::default(), Err(Failure::from(&Error::Cancelled)));
                events.end(Ended { version, result, output_left_out: false, usage, logs_dropped: 0 });
            }
        }
    }
}

#[cfg(test)]
mod tests;

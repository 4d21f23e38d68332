//! The events of an execution, in order and numbered: kept for whoever reads them now, late, or once more from where it
//! was cut off.
//!
//! Invariant: a reader is told every event in order and once, or how many it missed. What is kept is bounded for each
//! execution, each tenant and all together, and the writer waits for slow readers no longer than it was told to.

mod reader;
mod room;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mentat_manifest::AgentId;
use parking_lot::{Mutex, MutexGuard};
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::{Ended, Event, LogLine, NumberedEvent};

pub use reader::{Delivery, EventReader};
pub use room::{EventRoom, RoomLimits};
use room::{Loss, Share};

/// Bytes that are kept of an execution whatever others have: enough for the next words of who speaks little.
const LEAST_BYTES: usize = 16 << 10;

/// How often a writer that waits looks whether others have made room.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is kept of one execution's events, and how long they wait for their readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLimits {
    /// Bytes, about.
    pub bytes: usize,
    /// Events.
    pub count: usize,
    /// What happens to a chunk for which there is no room until somebody has read.
    pub back_pressure: BackPressure,
}

/// What happens to a chunk for which there is no room until somebody has read. Without a reader that keeps up, the oldest
/// event goes in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackPressure {
    /// Its writer waits so long for the slowest reader, which then misses events.
    Block(Duration),
    /// The oldest event goes at once.
    DropOldest,
    /// It is refused.
    Fail,
}

/// Why a chunk is not among the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A reader is too far behind, and the operator has chunks refused then.
    #[error("the readers are too far behind")]
    Full,
    /// The end was written before.
    #[error("there is nobody who could be told any more")]
    Closed,
    /// It alone is more than what is kept, which is so many bytes.
    #[error("it is more than the {0} bytes of events that are kept")]
    TooLarge(usize),
}

/// The events of one execution.
#[derive(Debug)]
pub struct EventBuffer {
    limits: EventLimits,
    tenant: Arc<str>,
    agent: Option<AgentId>,
    room: Arc<EventRoom>,
    /// Where its bytes are counted, from the first event on.
    share: OnceLock<Share>,
    /// The room looks here for what can go.
    state: Arc<Mutex<State>>,
    /// Something was written, or there is nothing more to come.
    news: Notify,
    /// Somebody has read.
    progress: Notify,
}

#[derive(Debug, Default)]
struct State {
    kept: VecDeque<Arc<NumberedEvent>>,
    /// The number of the next event.
    next: u64,
    bytes: usize,
    /// Chunks that were written.
    chunks: u64,
    /// Where they are counted, from the first event on.
    share: Option<Share>,
    is_ended: bool,
    is_expected: bool,
    /// The number of the event that each reader wants next.
    readers: Slab<u64>,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            // A minute of a video stream at 512 kbit/s, or of any text that somebody reads.
            bytes: 4 << 20,
            count: 10_000,
            // Long enough for a reader that is busy, short beside the time that an execution has.
            back_pressure: BackPressure::Block(Duration::from_secs(2)),
        }
    }
}

impl State {
    /// The number of the oldest event that is kept, or of the next one.
    fn first(&self) -> u64 {
        self.kept.front().map_or(self.next, |event| event.sequence)
    }

    fn has_room(&self, limits: &EventLimits, bytes: usize) -> bool {
        self.kept.len() < limits.count && self.bytes.saturating_add(bytes) <= limits.bytes
    }

    /// Whether a reader that has missed nothing yet still has to read the oldest event.
    fn is_awaited(&self) -> bool {
        let first = self.first();
        self.readers.iter().any(|(_, position)| *position == first)
    }

    /// Bytes that can go for others: of what has ended none, for that goes as a whole, and of all others not the last words.
    fn spare(&self, may_be_awaited: bool) -> usize {
        if self.is_ended || (self.is_awaited() && !may_be_awaited) {
            return 0;
        }
        self.bytes.saturating_sub(LEAST_BYTES)
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            let bytes = oldest.event.bytes();
            self.bytes = self.bytes.saturating_sub(bytes);
            self.give_back(bytes);
        }
    }

    fn give_back(&self, bytes: usize) {
        if let Some(share) = &self.share {
            share.give_back(bytes);
        }
    }

    fn clear(&mut self) {
        while !self.kept.is_empty() {
            self.drop_oldest();
        }
    }
}

impl EventBuffer {
    /// A buffer of an agent's execution, with its part of the room for all.
    #[must_use]
    pub fn new(limits: EventLimits, tenant: Arc<str>, agent: AgentId, room: Arc<EventRoom>) -> Self {
        Self::of(limits, tenant, Some(agent), room)
    }

    /// The same, whose next event has that number.
    #[must_use]
    pub fn going_on_at(self, next: u64) -> Self {
        self.state.lock().next = next;
        self
    }

    /// A buffer for an embedder, who knows what it is about.
    #[must_use]
    pub fn alone(limits: EventLimits, room: Arc<EventRoom>) -> Self {
        Self::of(limits, Arc::default(), None, room)
    }

    fn of(limits: EventLimits, tenant: Arc<str>, agent: Option<AgentId>, room: Arc<EventRoom>) -> Self {
        let (share, state) = (OnceLock::new(), Arc::default());
        let (news, progress) = (Notify::new(), Notify::new());
        Self { limits, tenant, agent, room, share, state, news, progress }
    }

    /// The agent, where the buffer was made for one.
    #[must_use]
    pub fn agent(&self) -> Option<&AgentId> {
        self.agent.as_ref()
    }

    /// How many events there were so far, and how many read them now.
    #[must_use]
    pub fn counts(&self) -> (u64, usize) {
        let state = self.state.lock();
        (state.next, state.readers.len())
    }

    /// How many chunks were written, of all streams together.
    #[must_use]
    pub fn total_chunks(&self) -> u64 {
        self.state.lock().chunks
    }

    /// Reads from the event of that number on.
    #[must_use]
    pub fn read_from(self: &Arc<Self>, sequence: u64) -> EventReader {
        EventReader::new(Arc::clone(self), sequence)
    }

    /// Somebody will read it, though nobody does yet: it is kept, whatever is in it.
    pub fn expect_readers(&self) {
        self.state.lock().is_expected = true;
    }

    /// Whether somebody reads it, or will.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        let state = self.state.lock();
        state.is_expected || !state.readers.is_empty()
    }

    /// Whether nobody reads it and there is nothing to read.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        let state = self.state.lock();
        state.next == 0 && !state.is_expected && state.readers.is_empty()
    }

    /// Writes an event without waiting: where there is no room, the oldest ones go. Answers its number.
    ///
    /// # Errors
    /// When the end was written before.
    pub fn write(&self, event: Event) -> Result<u64, EventError> {
        let (bytes, is_end) = (event.bytes(), event.is_end());
        let is_counted = self.count(bytes, is_end);
        self.push(event, is_counted)
    }

    /// Writes lines of a log, all of them when it is over.
    pub fn write_logs(&self, lines: &[LogLine]) {
        for line in lines {
            // Nobody is told after the end.
            let _ = self.write(Event::Log(line.clone()));
        }
    }

    /// Writes a chunk of a stream, or something else whose writer can wait for its readers. Answers its number.
    ///
    /// # Errors
    /// When it is refused; it then has no number, and no reader misses it.
    pub async fn write_waiting(&self, event: Event) -> Result<u64, EventError> {
        let bytes = event.bytes();
        if bytes > self.limits.bytes {
            return Err(EventError::TooLarge(self.limits.bytes));
        }
        // Given back where the event is refused, and where its writer goes away while it waits.
        let mut waiting = Waiting { buffer: self, event: Some(event), bytes, is_counted: None };
        let mut until = None;
        loop {
            let progress = self.progress.notified();
            if let Some(written) = self.push_without_loss(&mut waiting) {
                return written;
            }
            let deadline = match self.limits.back_pressure {
                BackPressure::Fail => return Err(EventError::Full),
                BackPressure::DropOldest => return self.push_anyway(&mut waiting),
                // A time without end is one.
                BackPressure::Block(time) => *until.get_or_insert_with(|| Instant::now().checked_add(time)),
            };
            // Others may make room as well, who do not know of this one.
            let _ = tokio::time::timeout(LOOK_AGAIN, progress).await;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return self.push_anyway(&mut waiting);
            }
        }
    }

    /// Puts an event behind the others, where no reader misses one for it; `None` where one would. Its bytes may be counted
    /// all the same.
    fn push_without_loss(&self, waiting: &mut Waiting<'_>) -> Option<Result<u64, EventError>> {
        if self.state.lock().is_ended {
            return Some(Err(EventError::Closed));
        }
        if waiting.is_counted.is_none() {
            waiting.is_counted = self.count_without_loss(waiting.bytes);
        }
        let is_counted = waiting.is_counted?;
        let mut state = self.state.lock();
        while !state.has_room(&self.limits, waiting.bytes) && !state.is_awaited() && !state.kept.is_empty() {
            self.make_way(&mut state);
        }
        if !state.has_room(&self.limits, waiting.bytes) {
            return None;
        }
        Some(self.push_to(state, waiting.event.take()?, is_counted))
    }

    /// Puts an event behind the others, whoever misses others for it.
    fn push_anyway(&self, waiting: &mut Waiting<'_>) -> Result<u64, EventError> {
        let is_counted = waiting.is_counted.unwrap_or_else(|| self.count(waiting.bytes, false));
        match waiting.event.take() {
            Some(event) => self.push(event, is_counted),
            None => Err(EventError::Closed),
        }
    }

    /// Writes the end. Nothing can be written after it. Output that is too much to be kept is left out.
    pub fn end(&self, mut ended: Ended) {
        if let Ok(answer) = &mut ended.result
            && answer.output.len() > self.limits.bytes / 2
        {
            ended.output_left_out = true;
            answer.output = Bytes::new();
        }
        // An execution has one end.
        let _ = self.write(Event::End(Arc::new(ended)));
    }

    /// Says that nothing more will be written, where there is no end to tell.
    pub fn close(&self) {
        self.state.lock().is_ended = true;
        self.news.notify_waiters();
        self.progress.notify_waiters();
    }

    /// Forgets what was kept but the end; whoever reads from now on is told how much it missed, and how it ended.
    pub(crate) fn forget(&self) {
        {
            let mut state = self.state.lock();
            while state.kept.front().is_some_and(|event| !event.event.is_end()) {
                state.drop_oldest();
            }
        }
        self.news.notify_waiters();
        self.progress.notify_waiters();
    }

    /// Lets the oldest event go for a later one.
    fn make_way(&self, state: &mut State) {
        state.drop_oldest();
        self.room.count_dropped();
    }

    /// Counts bytes in the room for all, for which others may have to go, whoever reads them. They are counted in any case where they must be kept,
    /// and where this buffer has little. Answers whether they are.
    fn count(&self, bytes: usize, must_be_kept: bool) -> bool {
        loop {
            let Err(mut state) = self.try_to_count(bytes, must_be_kept, Loss::OfReaders) else { return true };
            if state.kept.is_empty() {
                return false;
            }
            self.make_way(&mut state);
        }
    }

    /// The same, as long as no reader misses an event for it; `None` where one would.
    fn count_without_loss(&self, bytes: usize) -> Option<bool> {
        loop {
            let Err(mut state) = self.try_to_count(bytes, false, Loss::OfNobody) else { return Some(true) };
            if state.kept.is_empty() || state.is_awaited() {
                return None;
            }
            self.make_way(&mut state);
        }
    }

    /// Counts bytes, in the room of what else there is where need be.
    ///
    /// Not while the state is locked: this buffer may itself be among those that have to go.
    ///
    /// # Errors
    /// Where something of this buffer has to go first.
    fn try_to_count(
        &self,
        bytes: usize,
        must_be_kept: bool,
        loss: Loss,
    ) -> Result<(), MutexGuard<'_, State>> {
        let share = self.share.get_or_init(|| {
            let share = self.room.share(&self.tenant, &self.state);
            self.state.lock().share = Some(share.clone());
            share
        });
        while !share.take(bytes) {
            if self.room.make_room(&self.tenant, bytes, loss) {
                continue;
            }
            let state = self.state.lock();
            if must_be_kept || state.bytes.saturating_add(bytes) <= LEAST_BYTES {
                share.take_anyway(bytes);
                return Ok(());
            }
            return Err(state);
        }
        Ok(())
    }

    /// Puts an event behind the others.
    fn push(&self, event: Event, is_counted: bool) -> Result<u64, EventError> {
        self.push_to(self.state.lock(), event, is_counted)
    }

    fn push_to(
        &self,
        mut state: MutexGuard<'_, State>,
        event: Event,
        is_counted: bool,
    ) -> Result<u64, EventError> {
        let bytes = event.bytes();
        if state.is_ended {
            if is_counted {
                state.give_back(bytes);
            }
            return Err(EventError::Closed);
        }
        // What ends a stream or the execution cannot wait for readers, and there is little of it: nothing that one of them has
        // still to read goes for it.
        let is_an_end = matches!(event, Event::StreamEnd { .. }) || event.is_end();
        let may_exceed = is_an_end && bytes <= LEAST_BYTES && state.is_awaited();
        while !may_exceed && !state.has_room(&self.limits, bytes) && !state.kept.is_empty() {
            self.make_way(&mut state);
        }
        self.room.count_event();
        let sequence = state.next;
        state.next += 1;
        state.chunks += u64::from(event.is_chunk());
        state.is_ended = event.is_end();
        if is_counted {
            state.bytes += bytes;
            state.kept.push_back(Arc::new(NumberedEvent { sequence, time: SystemTime::now(), event }));
        } else {
            // What is kept has no holes.
            state.clear();
        }
        let is_ended = state.is_ended;
        drop(state);
        self.news.notify_waiters();
        if is_ended {
            // Whoever waits to write something waits in vain.
            self.progress.notify_waiters();
        }
        Ok(sequence)
    }
}

/// An event on its way.
struct Waiting<'a> {
    buffer: &'a EventBuffer,
    /// Gone when it was written.
    event: Option<Event>,
    bytes: usize,
    /// Whether its bytes are counted, once that is known.
    is_counted: Option<bool>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_counted == Some(true) && self.event.is_some() {
            self.buffer.state.lock().give_back(self.bytes);
        }
    }
}

impl Drop for State {
    /// Gives back what was counted.
    fn drop(&mut self) {
        self.clear();
        self.give_back(room::BUFFER_BYTES);
    }
}

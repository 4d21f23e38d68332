//! One who reads the events of an execution.

use std::sync::Arc;

use super::EventBuffer;
use crate::model::NumberedEvent;

/// What a reader is told.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The next event.
    Event(Arc<NumberedEvent>),
    /// Events that are not kept any more, or for which there was no room.
    Missed {
        /// The number of the first.
        first: u64,
        /// The number of the last.
        last: u64,
    },
}

/// Reads the events of an execution, each once and in order. Its writer waits for it, within what is configured, from when it
/// is made until it is dropped.
#[derive(Debug)]
pub struct EventReader {
    buffer: Arc<EventBuffer>,
    place: usize,
}

impl EventReader {
    pub(super) fn new(buffer: Arc<EventBuffer>, sequence: u64) -> Self {
        let place = {
            let mut state = buffer.state.lock();
            // A number that no event has yet is the next one's: whoever asks for it has seen all there is.
            let position = sequence.min(state.next);
            state.readers.insert(position)
        };
        Self { buffer, place }
    }

    /// What it reads.
    #[must_use]
    pub fn buffer(&self) -> &Arc<EventBuffer> {
        &self.buffer
    }

    /// Whether there is nothing more to come, and nothing to be told.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        let state = self.buffer.state.lock();
        state.is_ended && state.readers.get(self.place).is_none_or(|position| *position == state.next)
    }

    /// Waits for the next event. `None` at the end: nothing more will come.
    pub async fn next(&mut self) -> Option<Delivery> {
        let buffer = Arc::clone(&self.buffer);
        loop {
            let news = buffer.news.notified();
            if let Some(delivery) = self.now() {
                return Some(delivery);
            }
            if buffer.state.lock().is_ended {
                // It may have ended just now.
                return self.now();
            }
            news.await;
        }
    }

    /// The next event, if it is there already.
    pub fn now(&mut self) -> Option<Delivery> {
        let mut state = self.buffer.state.lock();
        let (first, next) = (state.first(), state.next);
        let position = state.readers.get_mut(self.place)?;
        if *position == next {
            return None;
        }
        let at = *position;
        let delivery = if at < first {
            *position = first;
            Delivery::Missed { first: at, last: first - 1 }
        } else {
            *position += 1;
            let index = usize::try_from(at - first).ok()?;
            Delivery::Event(Arc::clone(state.kept.get(index)?))
        };
        drop(state);
        self.buffer.progress.notify_waiters();
        Some(delivery)
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.buffer.state.lock().readers.try_remove(self.place);
        self.buffer.progress.notify_waiters();
    }
}

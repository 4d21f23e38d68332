//! What a guest says while it works: named streams of chunks, and values of metrics of its own. The core ABI and components
//! call the same functions here.
//!
//! Invariant: a stream is its execution's own, so that it asks for no capability; how many there are, and how much of
//! one is on its way to those who read it, is bounded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use mentat_manifest::escape_untrusted;

use super::abi::AbiError;
use super::capabilities::CallError;
use crate::events::{EventBuffer, EventError};
use crate::model::{Event, STDOUT_STREAM};

/// Streams that an execution may start.
const MAX_STREAMS: usize = 64;
/// Bytes of the name of a stream or of a metric at most.
const MAX_NAME_BYTES: usize = 64;
/// Bytes of a chunk at most; more is written in several.
pub(crate) const MAX_CHUNK_BYTES: usize = 1 << 20;
/// Metrics of its own that an execution may have.
const MAX_METRICS: usize = 64;

/// The streams and metrics of one execution.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Where they are written to; `None` where nobody can ever read them.
    events: Option<Arc<EventBuffer>>,
    /// Made when the guest first says something: most never do.
    said: Option<Box<Said>>,
}

/// What an execution has said.
#[derive(Debug, Default)]
struct Said {
    open: HashMap<i32, OpenStream>,
    /// Of all streams that were started.
    names: HashSet<Arc<str>>,
    metrics: HashSet<String>,
}

#[derive(Debug)]
struct OpenStream {
    name: Arc<str>,
    /// Chunks that were written.
    chunks: u64,
}

/// A chunk on its way.
pub(crate) struct Writing {
    events: Arc<EventBuffer>,
    event: Event,
}

impl Streams {
    pub(crate) fn new(events: Option<Arc<EventBuffer>>) -> Self {
        Self { events, said: None }
    }

    fn said(&mut self) -> &mut Said {
        self.said.get_or_insert_default()
    }

    /// Where they are written to.
    pub(crate) fn events(&self) -> Option<Arc<EventBuffer>> {
        self.events.clone()
    }

    /// Starts a stream; answers its handle.
    pub(crate) fn start(&mut self, name: &[u8]) -> Result<i32, CallError> {
        let name = name_of(name, |byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))?;
        let events = self.events.as_ref().ok_or_else(nobody)?;
        let events = Arc::clone(events);
        let said = self.said();
        if said.names.len() >= MAX_STREAMS {
            let message = format!("an execution may start {MAX_STREAMS} streams");
            return Err(CallError::new(AbiError::Exhausted, message));
        }
        let stream: Arc<str> = name.into();
        if name == STDOUT_STREAM {
            return Err(CallError::malformed(format!(
                "`{name}` is the stream of what a command writes to stdout"
            )));
        }
        if !said.names.insert(Arc::clone(&stream)) {
            return Err(CallError::malformed(format!(
                "this execution has started a stream `{name}` before; each needs a name of its own"
            )));
        }
        // One for each that was ever started, so that none is used again.
        let handle = i32::try_from(said.names.len()).unwrap_or(i32::MAX);
        events.write(Event::StreamStart { stream: Arc::clone(&stream) });
        said.open.insert(handle, OpenStream { name: stream, chunks: 0 });
        Ok(handle)
    }

    /// Takes a chunk to be written to a stream.
    pub(crate) fn write(&self, handle: i32, chunk: &[u8]) -> Result<Writing, CallError> {
        let stream = self.said.as_ref().and_then(|said| said.open.get(&handle)).ok_or_else(bad_handle)?;
        let events = self.events.as_ref().ok_or_else(nobody)?;
        ensure_fits(chunk.len())?;
        let event = Event::StreamData {
            stream: Arc::clone(&stream.name),
            index: stream.chunks,
            chunk: Bytes::copy_from_slice(chunk),
        };
        Ok(Writing { events: Arc::clone(events), event })
    }

    /// Counts a chunk that was written.
    pub(crate) fn written(&mut self, handle: i32) {
        if let Some(stream) = self.said().open.get_mut(&handle) {
            stream.chunks = stream.chunks.saturating_add(1);
        }
    }

    /// Ends a stream; its readers then know that they have all of it.
    pub(crate) fn end(&mut self, handle: i32) -> Result<(), CallError> {
        let stream = self.said().open.remove(&handle).ok_or_else(bad_handle)?;
        self.tell_end(stream, true);
        Ok(())
    }

    /// Gives a stream up; its readers are told that it was cut off.
    pub(crate) fn give_up(&mut self, handle: i32) {
        if let Some(stream) = self.said().open.remove(&handle) {
            self.tell_end(stream, false);
        }
    }

    /// Records a value of a metric of the agent's own.
    pub(crate) fn record(&mut self, name: &[u8], value: f64) -> Result<(), CallError> {
        let name = name_of(name, |byte| byte.is_ascii_alphanumeric() || byte == b'_')?;
        let events = Arc::clone(self.events.as_ref().ok_or_else(nobody)?);
        if !value.is_finite() {
            return Err(CallError::malformed(format!("the value of `{name}` is no number")));
        }
        let said = self.said();
        if !said.metrics.contains(name) {
            if said.metrics.len() >= MAX_METRICS {
                let message = format!("an execution may have {MAX_METRICS} metrics of its own");
                return Err(CallError::new(AbiError::Exhausted, message));
            }
            said.metrics.insert(name.to_owned());
        }
        events.write(Event::Metric { name: name.to_owned(), value });
        Ok(())
    }

    fn tell_end(&self, stream: OpenStream, whole: bool) {
        if let Some(events) = &self.events {
            let OpenStream { name: stream, chunks: total_chunks } = stream;
            events.write(Event::StreamEnd { stream, total_chunks, whole });
        }
    }
}

impl Drop for Streams {
    /// An execution that ends leaves no stream open.
    fn drop(&mut self) {
        let Some(said) = &self.said else { return };
        let mut open: Vec<i32> = said.open.keys().copied().collect();
        open.sort_unstable();
        open.into_iter().for_each(|handle| self.give_up(handle));
    }
}

impl Writing {
    /// Waits until the chunk is among the events.
    pub(crate) async fn done(self) -> Result<(), CallError> {
        self.events.write_waiting(self.event).await.map_err(|error| {
            let code = match error {
                EventError::Full => AbiError::Exhausted,
                EventError::TooLarge(_) => AbiError::TooLarge,
            };
            CallError::new(code, error.to_string())
        })
    }
}

/// Whether a chunk of so many bytes is taken; asked before they are copied.
pub(crate) fn ensure_fits(length: usize) -> Result<(), CallError> {
    if length > MAX_CHUNK_BYTES {
        let message =
            format!("a chunk of {length} bytes is over the limit of {MAX_CHUNK_BYTES}; write several");
        return Err(CallError::new(AbiError::TooLarge, message));
    }
    Ok(())
}

fn name_of(name: &[u8], allowed: impl Fn(u8) -> bool) -> Result<&str, CallError> {
    let text = std::str::from_utf8(name).unwrap_or_default();
    let fits = (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(allowed);
    if fits {
        return Ok(text);
    }
    let shown = name.get(..MAX_NAME_BYTES + 1).unwrap_or(name);
    Err(CallError::malformed(format!(
        "`{}` is no name; take 1 to {MAX_NAME_BYTES} letters, digits and underscores, for a stream also dots and hyphens",
        escape_untrusted(&String::from_utf8_lossy(shown), MAX_NAME_BYTES)
    )))
}

fn nobody() -> CallError {
    CallError::new(AbiError::Closed, "nobody can read what this execution says while it runs")
}

fn bad_handle() -> CallError {
    CallError::new(AbiError::BadHandle, AbiError::BadHandle.text())
}

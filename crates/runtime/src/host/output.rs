//! The output of a WASI command: what it writes to stdout, bounded, without the lines that report on its work where its
//! manifest says that there are such. From when somebody follows the execution, it is told as well as it is written, as a stream
//! that waits for its readers like any other; what was written before comes first.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::reports::{ReportLines, Reported};
use super::stdio::{LogSink, OutputOverflow, OutputSink, WRITE_PERMIT_BYTES};
use crate::events::EventBuffer;
use crate::model::{Event, STDOUT_STREAM};

/// A guest's stdout as its output.
#[derive(Clone, Debug)]
pub(crate) struct OutputStdio {
    output: OutputSink,
    reports: Option<Arc<Reports>>,
    told: Option<Arc<Told>>,
}

/// Where the lines go that are no output.
#[derive(Debug)]
pub(crate) struct Reports {
    lines: Mutex<ReportLines>,
    logs: LogSink,
    events: Option<Arc<EventBuffer>>,
}

/// What is told of it.
#[derive(Debug)]
struct Told {
    events: Arc<EventBuffer>,
    name: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chunks: u64,
    /// Somebody follows, or did.
    has_begun: bool,
    /// Written, and not yet told.
    waiting: Option<Bytes>,
}

impl OutputStdio {
    /// `events` is where it is told, too; `reports` where the lines go that are no output.
    pub(crate) fn new(
        output: OutputSink,
        reports: Option<Reports>,
        events: Option<Arc<EventBuffer>>,
    ) -> Self {
        let told = events
            .map(|events| Arc::new(Told { events, name: STDOUT_STREAM.into(), state: Mutex::default() }));
        Self { output, reports: reports.map(Arc::new), told }
    }

    fn append(&self, bytes: Bytes) -> Result<(), OutputOverflow> {
        let bytes = match &self.reports {
            Some(reports) => reports.without(&bytes),
            None => bytes,
        };
        self.add(bytes)
    }

    fn add(&self, bytes: Bytes) -> Result<(), OutputOverflow> {
        if let Some(told) = &self.told {
            told.begin(&self.output);
        }
        self.output.append(&bytes)?;
        if let Some(told) = &self.told {
            told.take(bytes);
        }
        Ok(())
    }

    /// Takes what was written outside this process, and waits until it is told.
    pub(crate) async fn put(&self, bytes: Bytes) -> Result<(), OutputOverflow> {
        self.append(bytes)?;
        if let Some(told) = &self.told {
            told.tell().await;
        }
        Ok(())
    }

    /// Tells what is left, and that there is no more: all of it, or what came until the execution failed.
    pub(crate) fn finish(&self, whole: bool) {
        if let Some(reports) = &self.reports {
            // Some bytes at most, behind a line that was not ended; where they are over the limit, so were those before.
            let _ = self.add(reports.rest());
        }
        let Some(told) = &self.told else { return };
        told.begin(&self.output);
        told.tell_now();
        let state = told.state.lock();
        if state.chunks > 0 {
            let (stream, total_chunks) = (Arc::clone(&told.name), state.chunks);
            told.write(Event::StreamEnd { stream, total_chunks, whole });
        }
    }
}

impl Reports {
    pub(crate) fn new(logs: LogSink, events: Option<Arc<EventBuffer>>) -> Self {
        Self { lines: Mutex::default(), logs, events }
    }

    fn without(&self, bytes: &[u8]) -> Bytes {
        self.lines.lock().take(bytes, |reported| self.tell(reported)).into()
    }

    fn rest(&self) -> Bytes {
        self.lines.lock().finish(|reported| self.tell(reported)).into()
    }

    fn tell(&self, reported: Reported) {
        reported.tell(&self.logs, self.events.as_deref());
    }
}

impl Told {
    /// Begins to tell where somebody follows by now: with what was written before.
    fn begin(&self, output: &OutputSink) {
        if self.state.lock().has_begun || !self.events.is_followed() {
            return;
        }
        self.state.lock().has_begun = true;
        let mut before = output.written();
        while !before.is_empty() {
            // Pieces as a guest writes them: a reader that is behind then misses no more than it must.
            let piece = before.split_to(before.len().min(WRITE_PERMIT_BYTES));
            self.take(piece);
        }
    }

    /// Takes what was written; what is still waiting is told without waiting, as the guest did not wait for it.
    fn take(&self, bytes: Bytes) {
        if bytes.is_empty() || !self.state.lock().has_begun {
            return;
        }
        self.tell_now();
        let mut state = self.state.lock();
        if state.chunks == 0 {
            self.write(Event::StreamStart { stream: Arc::clone(&self.name) });
        }
        state.waiting = Some(bytes);
    }

    /// Nobody is told after the end of the execution.
    fn write(&self, event: Event) {
        let _ = self.events.write(event);
    }

    fn tell_now(&self) {
        if let Some(event) = self.waiting() {
            self.write(event);
            self.told();
        }
    }

    /// Waits until what was written is told.
    async fn tell(&self) {
        let Some(event) = self.waiting() else { return };
        if self.events.write_waiting(event.clone()).await.is_err() {
            // There is no way to refuse what is in the output already.
            self.write(event);
        }
        self.told();
    }

    fn waiting(&self) -> Option<Event> {
        let state = self.state.lock();
        let chunk = state.waiting.clone()?;
        Some(Event::StreamData { stream: Arc::clone(&self.name), index: state.chunks, chunk })
    }

    fn told(&self) {
        let mut state = self.state.lock();
        state.waiting = None;
        state.chunks += 1;
    }
}

impl IsTerminal for OutputStdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for OutputStdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for OutputStdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(bytes).map_err(|overflow| StreamError::Trap(overflow.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let is_waiting = self.told.as_ref().is_some_and(|told| told.state.lock().waiting.is_some());
        Ok(if is_waiting { 0 } else { WRITE_PERMIT_BYTES })
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for OutputStdio {
    async fn ready(&mut self) {
        if let Some(told) = &self.told {
            told.tell().await;
        }
    }
}

impl AsyncWrite for OutputStdio {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.append(Bytes::copy_from_slice(bytes));
        Poll::Ready(written.map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

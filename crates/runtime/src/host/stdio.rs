//! Where a guest's words go: its output, and its log. Both are bounded; output over the limit ends
//! the execution, log lines over the limit are counted and dropped.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use mentat_manifest::{ByteCount, Limits, escape_untrusted};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::reports::Reported;
use crate::events::EventBuffer;
use crate::model::{Event, LogLevel, LogLine};

/// Bytes of one log line at most; the rest of it is dropped and said so.
pub(crate) const MAX_LINE_BYTES: usize = 16 << 10;
/// Bytes of `\u{10ffff}`, the longest that one byte of a line can become.
const LONGEST_ESCAPE_BYTES: usize = 10;
/// Bytes that a guest may hand over in one write of a stream.
pub(crate) const WRITE_PERMIT_BYTES: usize = 64 << 10;

/// The marker error by which a guest ends that wrote more output than its limit.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("output limit exceeded")]
pub(crate) struct OutputOverflow;

/// The output of one execution.
#[derive(Clone, Debug)]
pub(crate) struct OutputSink(Arc<Words>);

/// The log of one execution.
#[derive(Clone, Debug)]
pub(crate) struct LogSink(Arc<Words>);

/// What one execution says, of both kinds.
#[derive(Debug)]
struct Words {
    /// Bytes of output at most.
    limit: usize,
    output: Mutex<BytesMut>,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    lines: Vec<LogLine>,
    dropped: u64,
    bytes_left: usize,
    lines_left: u32,
    events: Option<Arc<EventBuffer>>,
}

/// A guest's stdout or stderr as log lines.
#[derive(Clone, Debug)]
pub(crate) struct LogStdio {
    level: LogLevel,
    logs: LogSink,
    /// Where lines go that report on the agent's work, where there are such.
    reports: Option<Arc<EventBuffer>>,
    partial: Arc<Mutex<PartialLine>>,
}

#[derive(Debug, Default)]
struct PartialLine {
    bytes: Vec<u8>,
    skipped: usize,
}

/// The output and the log of an execution that begins; its log is told as it is written where somebody can read that.
pub(crate) fn words(limits: &Limits, events: Option<Arc<EventBuffer>>) -> (OutputSink, LogSink) {
    let bytes = |count: ByteCount| usize::try_from(count.0).unwrap_or(usize::MAX);
    let words = Arc::new(Words {
        limit: bytes(limits.output_bytes),
        output: Mutex::default(),
        log: Mutex::new(Log {
            lines: Vec::new(),
            dropped: 0,
            bytes_left: bytes(limits.log_bytes),
            lines_left: limits.log_lines,
            events,
        }),
    });
    (OutputSink(Arc::clone(&words)), LogSink(words))
}

impl OutputSink {
    /// Replaces the output; the caller has bounded `bytes` by the guest's memory already.
    ///
    /// # Errors
    /// [`OutputOverflow`] when it is more than the limit.
    pub(crate) fn set(&self, bytes: &[u8]) -> Result<(), OutputOverflow> {
        if bytes.len() > self.0.limit {
            return Err(OutputOverflow);
        }
        *self.0.output.lock() = BytesMut::from(bytes);
        Ok(())
    }

    /// Adds to the output.
    ///
    /// # Errors
    /// [`OutputOverflow`] when it would be more than the limit.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<(), OutputOverflow> {
        let mut buffer = self.0.output.lock();
        if bytes.len() > self.0.limit.saturating_sub(buffer.len()) {
            return Err(OutputOverflow);
        }
        buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// A copy of what was written so far.
    pub(crate) fn written(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0.output.lock())
    }

    /// Whether what was written ends with the end of a line.
    pub(crate) fn ends_line(&self) -> bool {
        self.0.output.lock().ends_with(b"\n")
    }

    /// Takes what was written.
    pub(crate) fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.output.lock()).freeze()
    }
}

impl LogSink {
    /// Logs one line: made UTF-8, cut to its bound and escaped.
    pub(crate) fn log(&self, level: LogLevel, text: &[u8]) {
        self.log_cut(level, text, 0);
    }

    fn log_cut(&self, level: LogLevel, text: &[u8], skipped: usize) {
        let shortest = text.len().min(MAX_LINE_BYTES / LONGEST_ESCAPE_BYTES);
        {
            // A flood of lines that cannot be kept is not worth escaping.
            let mut log = self.0.log.lock();
            if log.lines_left == 0 || shortest > log.bytes_left {
                log.dropped = log.dropped.saturating_add(1);
                return;
            }
        }
        let (mut message, kept) = escape_line(text);
        let skipped = skipped.saturating_add(text.len() - kept);
        if skipped > 0 {
            message.push_str(&format!("… ({skipped} bytes more)"));
        }
        let mut log = self.0.log.lock();
        // Counted as it is kept: escaping makes a line longer.
        if log.lines_left == 0 || message.len() > log.bytes_left {
            log.dropped = log.dropped.saturating_add(1);
            return;
        }
        log.lines_left -= 1;
        log.bytes_left -= message.len();
        let line = LogLine { level, message, timestamp: SystemTime::now() };
        if let Some(events) = &log.events {
            // Nobody is told after the end.
            let _ = events.write(Event::Log(line.clone()));
        }
        log.lines.push(line);
    }

    /// Takes the lines and the number of those dropped.
    pub(crate) fn take(&self) -> (Vec<LogLine>, u64) {
        let mut log = self.0.log.lock();
        (std::mem::take(&mut log.lines), log.dropped)
    }
}

/// The beginning of a line, made UTF-8 and escaped, at most `MAX_LINE_BYTES` long before and after; and how many of
/// its bytes that is.
fn escape_line(text: &[u8]) -> (String, usize) {
    let escape = |bytes: &[u8]| escape_untrusted(&String::from_utf8_lossy(bytes), MAX_LINE_BYTES);
    let kept = text.get(..MAX_LINE_BYTES).unwrap_or(text);
    let message = escape(kept);
    if message.len() <= MAX_LINE_BYTES {
        return (message, kept.len());
    }
    let kept = kept.get(..MAX_LINE_BYTES / LONGEST_ESCAPE_BYTES).unwrap_or(kept);
    (escape(kept), kept.len())
}

impl LogStdio {
    pub(crate) fn new(level: LogLevel, logs: LogSink) -> Self {
        Self { level, logs, reports: None, partial: Arc::default() }
    }

    /// The same, of which some lines are reports.
    pub(crate) fn with_reports(self, reports: Option<Arc<EventBuffer>>) -> Self {
        Self { reports, ..self }
    }

    /// Takes what was written outside this process.
    pub(crate) fn put(&self, bytes: &[u8]) {
        self.write(bytes);
    }

    fn write(&self, bytes: &[u8]) {
        let mut partial = self.partial.lock();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = MAX_LINE_BYTES.saturating_sub(partial.bytes.len());
            let kept = piece.get(..room).unwrap_or(piece);
            partial.bytes.extend_from_slice(kept);
            partial.skipped = partial.skipped.saturating_add(piece.len() - kept.len());
            if pieces.peek().is_some() {
                self.end_line(&mut partial);
            }
        }
    }

    fn end_line(&self, partial: &mut PartialLine) {
        let line = std::mem::take(partial);
        let text = line.bytes.strip_suffix(b"\r").unwrap_or(&line.bytes);
        if let Some(events) = self.reports.as_deref().filter(|_| line.skipped == 0)
            && let Some(reported) = Reported::read(text)
        {
            reported.tell(&self.logs, Some(events));
            return;
        }
        self.logs.log_cut(self.level, text, line.skipped);
    }

    /// Logs a last line that was not ended by a newline.
    pub(crate) fn finish(&self) {
        let mut partial = self.partial.lock();
        if !partial.bytes.is_empty() {
            self.end_line(&mut partial);
        }
    }
}

impl IsTerminal for LogStdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LogStdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Self::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT_BYTES)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStdio {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LogStdio {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::write(&self, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(log_bytes: u64, log_lines: u32) -> LogSink {
        let limits = Limits { log_bytes: ByteCount(log_bytes), log_lines, ..Limits::DEFAULT };
        words(&limits, None).1
    }

    fn messages(logs: &LogSink) -> Vec<String> {
        logs.take().0.into_iter().map(|line| line.message).collect()
    }

    #[test]
    fn splits_a_stream_into_lines_and_keeps_the_last_unfinished_one() {
        let logs = sink(1000, 10);
        let stdio = LogStdio::new(LogLevel::Info, logs.clone());
        stdio.write(b"one\r\ntw");
        stdio.write(b"o\n\nthree");
        stdio.finish();
        assert_eq!(messages(&logs), ["one", "two", "", "three"]);
    }

    #[test]
    fn cuts_a_line_without_end_and_says_by_how_much() {
        let logs = sink(1 << 20, 10);
        let stdio = LogStdio::new(LogLevel::Info, logs.clone());
        for _ in 0..3 {
            stdio.write(&[b'x'; MAX_LINE_BYTES]);
        }
        stdio.write(b"\nnext\n");
        let lines = messages(&logs);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with(&format!("… ({} bytes more)", 2 * MAX_LINE_BYTES)));
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn counts_what_is_over_the_limits() {
        let logs = sink(10, 2);
        for text in ["12345", "123456", "12345", "1"] {
            logs.log(LogLevel::Info, text.as_bytes());
        }
        let (lines, dropped) = logs.take();
        assert_eq!(lines.len(), 2);
        assert_eq!(dropped, 2);
    }

    #[test]
    fn escaped_characters_count_as_they_are_kept() {
        let logs = sink(30, 10);
        logs.log(LogLevel::Info, b"\x1b\x1b\x1b\x1b");
        logs.log(LogLevel::Info, b"\x1b\x1b");
        let (lines, dropped) = logs.take();
        assert_eq!((lines.len(), dropped), (1, 1));
    }

    #[test]
    fn refuses_output_over_the_limit_and_keeps_what_fits() {
        let (output, _) = words(&Limits { output_bytes: ByteCount(4), ..Limits::DEFAULT }, None);
        output.append(b"1234").unwrap();
        assert!(output.append(b"5").is_err());
        assert!(output.set(b"12345").is_err());
        output.set(b"ok").unwrap();
        assert_eq!(output.take(), "ok");
    }
}

//! The standard streams of an agent that runs outside this process, as in a container: stdout is its output and what it
//! reports, stderr its log. They are those of a WASI command, by the same sinks and the same limits.
//!
//! Knows nothing of what runs the agent, and decides on nothing but how much of what it writes is kept.

use std::sync::Arc;

use bytes::Bytes;
use mentat_manifest::{ByteCount, Events};

use super::output::{OutputStdio, Reports};
use super::stdio::{LogSink, LogStdio, OutputSink, WRITE_PERMIT_BYTES, words};
use crate::error::Error;
use crate::events::EventBuffer;
use crate::model::{LogLevel, LogLine};
use crate::security::policy::Grant;

/// What an agent outside this process writes.
#[derive(Debug)]
pub struct StandardStreams {
    limit: ByteCount,
    output: OutputSink,
    logs: LogSink,
    stdout: OutputStdio,
    stderr: LogStdio,
}

/// What was kept of what an agent wrote.
#[derive(Debug)]
pub struct Written {
    /// Its output.
    pub output: Bytes,
    /// Its log.
    pub logs: Vec<LogLine>,
    /// Lines of its log that were not kept.
    pub logs_dropped: u64,
}

impl StandardStreams {
    /// Empty ones, within the grant's limits; `events` is where they are told as they are written.
    #[must_use]
    pub fn new(grant: &Grant, events: Option<Arc<EventBuffer>>) -> Self {
        let limits = grant.limits();
        let (output, logs) = words(limits, events.clone());
        let reports =
            (grant.reports() == Some(Events::Ndjson)).then(|| Reports::new(logs.clone(), events.clone()));
        let stdout = OutputStdio::new(output.clone(), reports, events);
        let stderr = LogStdio::new(LogLevel::Warn, logs.clone());
        Self { limit: limits.output_bytes, output, logs, stdout, stderr }
    }

    /// Where what the host has to say to the agent's author goes.
    pub(crate) fn logs(&self) -> &LogSink {
        &self.logs
    }

    /// Takes what was written to stdout. Waits for those who follow it, as long as they may be waited for.
    ///
    /// # Errors
    /// `OUTPUT_TOO_LARGE` where it is more than the limit; what fits was kept.
    pub async fn stdout(&self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(WRITE_PERMIT_BYTES));
            let put = self.stdout.put(piece).await;
            put.map_err(|_overflow| Error::OutputTooLarge { limit: self.limit })?;
        }
        Ok(())
    }

    /// Takes of what was written to stdout what belongs to the first line that is output, and the reports before it. Answers
    /// what is behind that line once it has ended, `None` until then.
    ///
    /// # Errors
    /// As [`Self::stdout`].
    pub async fn stdout_line(&self, mut bytes: Bytes) -> Result<Option<Bytes>, Error> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.stdout(bytes.split_to(end + 1)).await?;
            if self.output.ends_line() {
                return Ok(Some(bytes));
            }
        }
        self.stdout(bytes).await?;
        Ok(None)
    }

    /// Takes what was written to stderr.
    pub fn stderr(&self, bytes: &[u8]) {
        self.stderr.put(bytes);
    }

    /// Logs what the host has to say to the agent's author.
    pub fn warn(&self, text: &str) {
        self.logs.log(LogLevel::Warn, text.as_bytes());
    }

    /// Tells and takes what was written: all of it, or what came until the execution failed.
    #[must_use]
    pub fn finish(&self, whole: bool) -> Written {
        self.stderr.finish();
        self.stdout.finish(whole);
        let (logs, logs_dropped) = self.logs.take();
        Written { output: self.output.take(), logs, logs_dropped }
    }
}

#[cfg(test)]
mod tests {
    use mentat_manifest::{LimitsRequest, Manifest};

    use super::*;
    use crate::security::policy::{Rules, UserPowers};

    fn streams(events: &str, output: u64) -> StandardStreams {
        let manifest =
            Manifest::parse(&format!("id: a.b\nversion: 1.0.0\nruntime: container\nimage: x\n{events}"));
        let limits = LimitsRequest { output_bytes: Some(ByteCount(output)), ..LimitsRequest::default() };
        let rules = Rules::default();
        let grant = rules.decide_for_user(Some(&manifest.unwrap()), &limits, UserPowers::default());
        StandardStreams::new(&grant.unwrap(), None)
    }

    #[tokio::test]
    async fn reports_are_no_output_and_what_is_on_stderr_is_the_log() {
        let streams = streams("events: ndjson\n", 1_000);
        streams.stdout("one\n{\"type\":\"log\",\"message\":\"half\"}\ntw".into()).await.unwrap();
        streams.stderr(b"odd\nend");
        streams.stdout("o".into()).await.unwrap();
        let written = streams.finish(true);
        assert_eq!(written.output, "one\ntwo");
        let told: Vec<&str> = written.logs.iter().map(|line| line.message.as_str()).collect();
        assert_eq!(told, ["half", "odd", "end"]);
    }

    #[tokio::test]
    async fn the_first_line_that_is_no_report_is_the_answer_and_what_is_behind_it_is_left() {
        let report = "{\"type\":\"heartbeat\"}\n";
        let text = format!("{report}{{\"type\":\"log\",\"message\":\"m\"}}\nanswer\n{report}more");
        let answer_ends = text.find("answer\n").unwrap() + "answer\n".len();
        for size in 1..=text.len() {
            let streams = streams("events: ndjson\n", 1_000);
            let (mut behind, mut taken) = (None, 0);
            for piece in text.as_bytes().chunks(size) {
                taken += piece.len();
                behind = streams.stdout_line(Bytes::copy_from_slice(piece)).await.unwrap();
                if behind.is_some() {
                    break;
                }
            }
            assert_eq!(behind.unwrap().len(), taken - answer_ends, "{size}");
            assert_eq!(streams.finish(true).output, "answer\n");
        }
        let endless = streams("events: ndjson\n", 20);
        assert!(endless.stdout_line("no end of it".into()).await.unwrap().is_none());
        assert!(matches!(
            endless.stdout_line(vec![b'x'; 100_000].into()).await,
            Err(Error::OutputTooLarge { .. })
        ));
    }

    #[tokio::test]
    async fn output_over_the_limit_is_refused_and_what_fits_is_kept() {
        let streams = streams("", 100_000);
        streams.stdout(vec![b'x'; 100_000].into()).await.unwrap();
        let refused = streams.stdout("y".into()).await.unwrap_err();
        assert!(matches!(refused, Error::OutputTooLarge { limit: ByteCount(100_000) }));
        assert_eq!(streams.finish(false).output.len(), 100_000);
    }
}

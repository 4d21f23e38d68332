//! What an execution says, as it comes: its log on stderr, and where that is wanted its streams on stdout.

use std::io::Write;

use mentat_manifest::escape_untrusted;
use mentat_runtime::events::Delivery;
use mentat_runtime::model::{Event, NumberedEvent, Report, STDOUT_STREAM};
use serde_json::{Value, json};

use crate::output;
use crate::report::{LogReport, milliseconds_since_epoch};

/// Characters of a text that are shown at most; who sent it bounds it more tightly.
const MAX_SHOWN_CHARS: usize = 64 << 10;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// The log, on stderr.
    Log,
    /// The log and the reports on stderr, the chunks of all streams on stdout as they are.
    Stream,
    /// Every event, as a line of JSON on stdout.
    JsonLines,
    /// Nothing now: the log is kept for the end.
    Nothing,
}

/// Tells it.
#[derive(Debug)]
pub(crate) struct Teller {
    telling: Telling,
    logs: Vec<LogReport>,
    has_told_output: bool,
}

impl Telling {
    pub(crate) fn of(stream: bool, json: bool) -> Self {
        match (stream, json) {
            (true, true) => Self::JsonLines,
            (true, false) => Self::Stream,
            (false, true) => Self::Nothing,
            (false, false) => Self::Log,
        }
    }
}

impl Teller {
    pub(crate) fn new(telling: Telling) -> Self {
        Self { telling, logs: Vec::new(), has_told_output: false }
    }

    /// Tells an event, or that some were missed. Whoever does not read the results any more is not written to.
    pub(crate) fn tell(&mut self, delivery: &Delivery) {
        match (self.telling, delivery) {
            (Telling::JsonLines, _) => write_line(delivery),
            (Telling::Nothing, Delivery::Event(event)) => {
                if let Event::Log(line) = &event.event {
                    self.logs.push(line.clone().into());
                }
            }
            (Telling::Nothing, Delivery::Missed { .. }) => {}
            (Telling::Log | Telling::Stream, Delivery::Missed { first, last }) => {
                output::write_notice(&format!("events {first} to {last} are not there any more"));
            }
            (Telling::Log | Telling::Stream, Delivery::Event(event)) => self.tell_event(&event.event),
        }
    }

    fn tell_event(&mut self, event: &Event) {
        let is_streaming = self.telling == Telling::Stream;
        match event {
            Event::Log(line) => {
                output::write_log(line.level, &escape_untrusted(&line.message, MAX_SHOWN_CHARS));
            }
            Event::StreamData { stream, chunk, .. } if is_streaming => {
                self.has_told_output |= **stream == *STDOUT_STREAM;
                let mut stdout = std::io::stdout().lock();
                let _ = stdout.write_all(chunk).and_then(|()| stdout.flush());
            }
            Event::StreamEnd { stream, whole: false, .. } if is_streaming => {
                let stream = escape_untrusted(stream, MAX_SHOWN_CHARS);
                output::write_notice(&format!("stream `{stream}` was cut off"));
            }
            Event::Metric { name, value } if is_streaming => {
                output::write_stderr(&format!(
                    "[metric] {} {value}\n",
                    escape_untrusted(name, MAX_SHOWN_CHARS)
                ));
            }
            Event::Report(report) if is_streaming => write_report(report),
            Event::StreamStart { .. }
            | Event::StreamData { .. }
            | Event::StreamEnd { .. }
            | Event::Metric { .. }
            | Event::Report(_)
            | Event::End(_) => {}
        }
    }

    /// Whether the output was told as it was written, so that it is not to be written once more.
    pub(crate) fn has_told_output(&self) -> bool {
        self.has_told_output
    }

    /// The log lines that were not told.
    pub(crate) fn into_logs(self) -> Vec<LogReport> {
        self.logs
    }
}

fn write_report(report: &Report) {
    let mut text = format!("[{}]", report.kind.as_str());
    for part in [report.message.clone(), report.data.as_ref().map(Value::to_string)].into_iter().flatten() {
        text.push(' ');
        text.push_str(&escape_untrusted(&part, MAX_SHOWN_CHARS));
    }
    text.push('\n');
    output::write_stderr(&text);
}

fn write_line(delivery: &Delivery) {
    let line = match delivery {
        // How it ended is told by the report of the whole.
        Delivery::Event(event) if matches!(event.event, Event::End(_)) => return,
        Delivery::Event(event) => line_of(event),
        Delivery::Missed { first, last } => json!({ "kind": "missed", "first": first, "last": last }),
    };
    let _ = output::write_json(&line);
}

fn line_of(event: &NumberedEvent) -> Value {
    let mut line = event.event.to_json();
    if let Some(line) = line.as_object_mut() {
        line.insert("sequence".into(), event.sequence.into());
        line.insert("timestamp_ms".into(), milliseconds_since_epoch(event.time).into());
    }
    line
}

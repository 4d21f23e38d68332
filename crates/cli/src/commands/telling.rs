//! What an execution says, as it comes: its log on stderr, and where that is wanted its streams on stdout.

use bytes::Bytes;
use mentat_manifest::escape_untrusted;
use mentat_runtime::events::Delivery;
use mentat_runtime::model::{Event, NumberedEvent, Report, STDOUT_STREAM};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::output::{self, Stop};
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
    told_output: ToldOutput,
    has_gap: bool,
    /// Whether a stream of an agent elsewhere was ended, or given up.
    closed: Option<bool>,
    stop: Option<Stop>,
}

/// What was told of a command's output as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToldOutput {
    Nothing,
    /// So many bytes from its beginning, with none missing between them.
    Beginning(usize),
    /// What came behind the place that the user had seen already; where in the output that is, nobody knows.
    Rest,
    /// All of it, or all that the user had not seen.
    All,
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
        Self {
            telling,
            logs: Vec::new(),
            told_output: ToldOutput::Nothing,
            has_gap: false,
            closed: None,
            stop: None,
        }
    }

    /// Tells an event, or that some were missed; answers whether there is use in telling more.
    pub(crate) fn tell(&mut self, delivery: &Delivery) -> bool {
        match delivery {
            Delivery::Event(event) => {
                if let Event::Closed { whole } = event.event {
                    self.closed = Some(whole);
                }
            }
            Delivery::Missed { .. } => self.has_gap = true,
        }
        match (self.telling, delivery) {
            (Telling::JsonLines, _) => self.write_line(delivery),
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
        self.stop.is_none()
    }

    fn tell_event(&mut self, event: &Event) {
        let is_streaming = self.telling == Telling::Stream;
        match event {
            Event::Log(line) => {
                output::write_log(line.level, &escape_untrusted(&line.message, MAX_SHOWN_CHARS));
            }
            Event::StreamData { stream, chunk, index } if is_streaming => {
                let is_next = **stream != *STDOUT_STREAM || self.continues_output(*index, chunk.len());
                if is_next {
                    self.note(output::write_part(chunk));
                }
            }
            Event::StreamEnd { stream, whole: true, .. } if is_streaming && **stream == *STDOUT_STREAM => {
                if !self.has_gap {
                    self.told_output = ToldOutput::All;
                }
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
            Event::Published(data) if is_streaming => self.note(output::write_json_part(data)),
            Event::StreamStart { .. }
            | Event::StreamData { .. }
            | Event::StreamEnd { .. }
            | Event::Metric { .. }
            | Event::Report(_)
            | Event::Published(_)
            | Event::Closed { .. }
            | Event::End(_) => {}
        }
    }

    /// Whether a chunk of a command's output is written now. What comes behind a gap is written when all of it is there, at
    /// the end, if it can be told where the gap is.
    fn continues_output(&mut self, index: u64, length: usize) -> bool {
        self.told_output = match self.told_output {
            ToldOutput::Nothing if index > 0 && !self.has_gap => ToldOutput::Rest,
            ToldOutput::Nothing if !self.has_gap => ToldOutput::Beginning(length),
            ToldOutput::Beginning(told) if !self.has_gap => ToldOutput::Beginning(told + length),
            told => told,
        };
        self.told_output == ToldOutput::Rest || !self.has_gap
    }

    fn write_line(&mut self, delivery: &Delivery) {
        let line = match delivery {
            // How it ended is told by the report of the whole.
            Delivery::Event(event) if matches!(event.event, Event::End(_)) => return,
            Delivery::Event(event) => line_of(event),
            Delivery::Missed { first, last } => {
                Line::Own(json!({ "kind": "missed", "first": first, "last": last }))
            }
        };
        self.note(output::write_json_part(&line));
    }

    /// Remembers the first thing that could not be written.
    fn note(&mut self, written: Result<(), Stop>) {
        if let Err(stop) = written {
            self.stop.get_or_insert(stop);
        }
    }

    /// Why there is no use in telling more.
    pub(crate) fn stop(&mut self) -> Option<Stop> {
        self.stop.take()
    }

    /// What is left of the output behind what was told as it was written.
    pub(crate) fn untold(&self, output: &Bytes) -> Bytes {
        match self.told_output {
            ToldOutput::Nothing => output.clone(),
            ToldOutput::Beginning(told) => output.slice(told.min(output.len())..),
            ToldOutput::Rest | ToldOutput::All => Bytes::new(),
        }
    }

    /// Whether it was the stream of an agent elsewhere, and was ended, or given up.
    pub(crate) fn closed(&self) -> Option<bool> {
        self.closed
    }

    /// The log lines that were not told.
    pub(crate) fn into_logs(self) -> Vec<LogReport> {
        self.logs
    }
}

fn write_report(report: &Report) {
    let mut text = format!("[{}]", report.kind.as_str());
    for part in [report.message.clone(), report.data.clone()].into_iter().flatten() {
        text.push(' ');
        text.push_str(&escape_untrusted(&part, MAX_SHOWN_CHARS));
    }
    text.push('\n');
    output::write_stderr(&text);
}

/// An event as a line of JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Own(Value),
    /// What an agent elsewhere has published, as it did.
    Published {
        kind: &'static str,
        data: &'a RawValue,
        sequence: u64,
        timestamp_ms: u64,
    },
}

fn line_of(event: &NumberedEvent) -> Line<'_> {
    let (sequence, timestamp_ms) = (event.sequence, milliseconds_since_epoch(event.time));
    if let Event::Published(data) = &event.event {
        return Line::Published { kind: "published", data, sequence, timestamp_ms };
    }
    let mut line = event.event.to_json();
    if let Some(line) = line.as_object_mut() {
        line.insert("sequence".into(), sequence.into());
        line.insert("timestamp_ms".into(), timestamp_ms.into());
    }
    Line::Own(line)
}

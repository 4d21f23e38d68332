//! Lines of an agent's stdout that report on its work, by the contract of MentatLab's agents: one JSON object each, whose
//! `type` tells what it is.
//!
//! Invariant: a line is a report or output, and never both; what is no report is passed on as it was written.

use mentat_manifest::escape_untrusted;
use serde_json::{Map, Value};

use super::stdio::{LogSink, MAX_LINE_BYTES};
use crate::events::EventBuffer;
use crate::model::{Event, LogLevel, Report, ReportKind};

/// Characters of a report's message and correlation id at most.
const MAX_TEXT_CHARS: usize = 4 << 10;

/// Tells the reports of a stream of bytes from the rest of it.
#[derive(Debug, Default)]
pub(crate) struct ReportLines {
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// Whether the present line is longer than any report, and was passed on so far.
    is_long: bool,
}

/// What a line reports.
#[derive(Debug, PartialEq)]
pub(crate) enum Reported {
    /// A line for the log.
    Log(LogLevel, String),
    /// Anything else.
    Report(Report),
}

impl ReportLines {
    /// Takes bytes; answers what of them, and of those before, is output. `tell` gets the reports.
    pub(crate) fn take(&mut self, bytes: &[u8], mut tell: impl FnMut(Reported)) -> Vec<u8> {
        let mut output = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = piece.ends_with(b"\n");
            if self.is_long {
                output.extend_from_slice(piece);
                self.is_long = !is_whole;
                continue;
            }
            self.partial.extend_from_slice(piece);
            if is_whole {
                self.end_line(&mut output, &mut tell);
            } else if self.partial.len() > MAX_LINE_BYTES {
                output.append(&mut self.partial);
                self.is_long = true;
            }
        }
        output
    }

    /// Takes the end; answers what was left of the output.
    pub(crate) fn finish(&mut self, mut tell: impl FnMut(Reported)) -> Vec<u8> {
        let mut output = Vec::new();
        if !self.partial.is_empty() {
            self.end_line(&mut output, &mut tell);
        }
        output
    }

    fn end_line(&mut self, output: &mut Vec<u8>, tell: &mut impl FnMut(Reported)) {
        match Reported::read(&self.partial) {
            Some(reported) => {
                tell(reported);
                self.partial.clear();
            }
            None => output.append(&mut self.partial),
        }
    }
}

impl Reported {
    /// Reads a line; `None` where it is output.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let line = line.trim_ascii();
        if line.len() > MAX_LINE_BYTES || !line.starts_with(b"{") {
            return None;
        }
        let mut members: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let kind = members.remove("type")?;
        let kind = kind.as_str()?;
        let message = text(&mut members, "message")?;
        if kind == "log" {
            let level = level_of(text(&mut members, "level")?.as_deref())?;
            let mut line = message.unwrap_or_default();
            // What else it says belongs to the line.
            members.retain(|_, value| !value.is_null());
            if !members.is_empty() {
                let separator = if line.is_empty() { "" } else { " " };
                line = format!("{line}{separator}{}", Value::Object(members));
            }
            return Some(Self::Log(level, line));
        }
        let kind = ReportKind::from_name(kind)?;
        let correlation_id = text(&mut members, "correlation_id")?;
        let ts = members.remove("ts").filter(|ts| ts.is_string() || ts.is_number());
        Some(Self::Report(Report { kind, message, data: data_of(members), correlation_id, ts }))
    }

    /// Tells it to who listens.
    pub(crate) fn tell(self, logs: &LogSink, events: Option<&EventBuffer>) {
        match (self, events) {
            (Self::Log(level, message), _) => logs.log(level, message.as_bytes()),
            (Self::Report(report), Some(events)) => events.write(Event::Report(report)),
            (Self::Report(_), None) => {}
        }
    }
}

/// The data of a report, and whatever else stands beside it.
fn data_of(mut members: Map<String, Value>) -> Option<Value> {
    match members.remove("data") {
        None | Some(Value::Null) => (!members.is_empty()).then_some(Value::Object(members)),
        Some(Value::Object(mut data)) => {
            for (key, value) in members {
                data.entry(key).or_insert(value);
            }
            Some(Value::Object(data))
        }
        Some(data) if members.is_empty() => Some(data),
        Some(data) => {
            members.insert("data".to_owned(), data);
            Some(Value::Object(members))
        }
    }
}

/// Takes a text that may be left out; `None` where it is something else than a text.
fn text(members: &mut Map<String, Value>, key: &str) -> Option<Option<String>> {
    match members.remove(key) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(escape_untrusted(&text, MAX_TEXT_CHARS))),
        Some(_) => None,
    }
}

fn level_of(name: Option<&str>) -> Option<LogLevel> {
    Some(match name.unwrap_or("info").to_ascii_lowercase().as_str() {
        "error" | "critical" | "fatal" => LogLevel::Error,
        "warn" | "warning" => LogLevel::Warn,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(line: &str) -> Option<Reported> {
        Reported::read(line.as_bytes())
    }

    fn report(kind: ReportKind, message: Option<&str>, data: Option<Value>) -> Option<Reported> {
        let message = message.map(str::to_owned);
        Some(Reported::Report(Report { kind, message, data, correlation_id: None, ts: None }))
    }

    #[test]
    fn lines_of_the_contract_are_reports() {
        assert_eq!(
            read(
                r#"{"type": "log", "level": "WARNING", "message": "low \u001b[31m", "data": {"left": 3}, "ts": null}"#
            ),
            Some(Reported::Log(LogLevel::Warn, r#"low \u{1b}[31m {"data":{"left":3}}"#.into()))
        );
        assert_eq!(
            read(r#"{"type":"log","message":"plain"}"#),
            Some(Reported::Log(LogLevel::Info, "plain".into()))
        );
        let whole = r#"{"type":"checkpoint","message":"half","data":[1],"correlation_id":"c","ts":1.5}"#;
        let expected = Report {
            kind: ReportKind::Checkpoint,
            message: Some("half".into()),
            data: Some(json!([1])),
            correlation_id: Some("c".into()),
            ts: Some(json!(1.5)),
        };
        assert_eq!(read(whole), Some(Reported::Report(expected)));
        assert_eq!(read(r#"{"type":"heartbeat"}"#), report(ReportKind::Heartbeat, None, None));
        assert_eq!(
            read(r#"{"type":"progress","percent":50,"data":{"of":9}}"#),
            report(ReportKind::Progress, None, Some(json!({ "of": 9, "percent": 50 })))
        );
        assert_eq!(
            read(r#"{"type":"metric","name":"n","data":7}"#),
            report(ReportKind::Metric, None, Some(json!({ "name": "n", "data": 7 })))
        );
    }

    #[test]
    fn everything_else_is_output() {
        for line in [
            "",
            "plain",
            "{",
            "[]",
            r#"{"kind": "log"}"#,
            r#"{"type": "result", "message": "x"}"#,
            r#"{"type": 7}"#,
            r#"{"type": "log", "message": 7}"#,
            r#"{"type": "log", "level": "loud"}"#,
            r#"{"type": "progress", "correlation_id": {}}"#,
            r#"{"type": "progress"} and more"#,
        ] {
            assert_eq!(read(line), None, "{line}");
        }
        let long = format!(r#"{{"type":"log","message":"{}"}}"#, "x".repeat(MAX_LINE_BYTES));
        assert_eq!(read(&long), None);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_come_to_the_same(
            lines in prop::collection::vec(
                prop_oneof![
                    Just("{\"type\":\"heartbeat\"}".to_owned()),
                    Just("{\"type\":\"log\",\"message\":\"m\"}".to_owned()),
                    "[ -~]{0,30}",
                    (MAX_LINE_BYTES..MAX_LINE_BYTES + 10).prop_map(|length| "y".repeat(length)),
                ],
                0..8,
            ),
            size in 1_usize..40_000,
            is_ended in any::<bool>(),
        ) {
            let mut text = lines.join("\n");
            if is_ended {
                text.push('\n');
            }
            let is_report = |line: &&String| line.starts_with("{\"type\":");
            let expected: String = text.split_inclusive('\n')
                .filter(|line| !line.starts_with("{\"type\":"))
                .collect();
            let (mut reports, mut output) = (0, Vec::new());
            let mut splitter = ReportLines::default();
            for piece in text.as_bytes().chunks(size) {
                output.extend(splitter.take(piece, |_| reports += 1));
            }
            output.extend(splitter.finish(|_| reports += 1));
            prop_assert_eq!(String::from_utf8(output).unwrap(), expected);
            prop_assert_eq!(reports, lines.iter().filter(is_report).count());
        }
    }
}

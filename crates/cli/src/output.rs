//! How results, errors and logs are written. Results go to stdout and nothing else does; everything
//! else goes to stderr. Local errors and those of a server end up as one [`Failure`] and look alike.
//!
//! Invariant: text that comes from an agent, a module or a server reaches the terminal without control
//! characters.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use mentat_manifest::escape_untrusted;
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::model::LogLevel;
use serde::Serialize;
use serde_json::Value;

use crate::environment;

/// Characters of one piece of foreign text that are shown at most.
const MAX_SHOWN_CHARS: usize = 4096;
/// Details whose value is JSON in text.
const JSON_DETAILS: [&str; 2] = ["problems", "backtrace"];

/// Why a verb did not do what it was asked, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Row of the error table, or `UNAVAILABLE` where there was no server to answer.
    reason: String,
    message: String,
    details: BTreeMap<String, Value>,
    exit_code: u8,
    /// The file that the problems are in.
    path: Option<String>,
}

/// An error as JSON, the same on every surface.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    reason: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    details: &'a BTreeMap<String, Value>,
}

#[derive(Serialize)]
struct ErrorReply<'a> {
    error: ErrorBody<'a>,
}

impl Failure {
    /// Something is wrong with what the user gave.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidRequest.as_str(), message.into(), Reason::InvalidRequest.exit_code())
    }

    /// There is no server to answer.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new("UNAVAILABLE", message.into(), Reason::Unavailable.exit_code())
    }

    /// The machine does not do what it should.
    pub(crate) fn system(what: &str, error: &io::Error) -> Self {
        Self::new(Reason::Internal.as_str(), format!("{what}: {error}"), Reason::Internal.exit_code())
    }

    /// A server's answer: its reason code, sentence and details.
    pub(crate) fn answered(
        reason: Reason,
        message: String,
        details: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut failure = Self::new(reason.as_str(), message, reason.exit_code());
        failure.details = details.into_iter().map(|(key, value)| decode_detail(key, value)).collect();
        failure
    }

    /// The same failure, as one of this file.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.path = Some(escape_untrusted(&path.display().to_string(), MAX_SHOWN_CHARS));
        self
    }

    /// The exit code for it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_code)
    }

    /// For JSON.
    pub(crate) fn body(&self) -> ErrorBody<'_> {
        ErrorBody { reason: &self.reason, message: &self.message, details: &self.details }
    }

    /// Writes it: as JSON to stdout, or as text to stderr.
    pub(crate) fn write(&self, json: bool) {
        if json {
            // Where stdout is gone too, the exit code still tells.
            let _ = write_json(&ErrorReply { error: self.body() });
        } else {
            self.write_text();
        }
    }

    /// Writes it to stderr.
    pub(crate) fn write_text(&self) {
        let lines = self.lines();
        let label = paint(Colour::Red, "error:");
        let path = self.path.as_ref().map_or_else(String::new, |path| format!("{path}: "));
        let what = match self.reason.as_str() {
            // Their sentences list what the lines below say at length.
            "INVALID_MANIFEST" if !lines.is_empty() => "the manifest cannot be used".to_owned(),
            "INVALID_MODULE" if !lines.is_empty() => "the module cannot be executed".to_owned(),
            _ => self.to_string(),
        };
        let mut text = format!("{label} {path}{what} [{}]\n", self.reason);
        for line in lines {
            text.push_str(&format!("{line}\n"));
        }
        write_stderr(&text);
    }

    /// What goes wrong where, one to a line: problems of a manifest as `path:line:column: key: message`,
    /// problems of a module, frames of a backtrace.
    pub(crate) fn lines(&self) -> Vec<String> {
        let list = |key: &str| match self.details.get(key) {
            Some(Value::Array(items)) => items.clone(),
            _ => Vec::new(),
        };
        let mut lines: Vec<String> =
            list("problems").iter().map(|problem| problem_line(problem, self.path.as_deref())).collect();
        let backtrace = list("backtrace");
        // Recursion fills a backtrace with one frame.
        for run in backtrace.chunk_by(|one, next| one == next) {
            let times = if run.len() > 1 { format!(" ({} times)", run.len()) } else { String::new() };
            lines.extend(run.first().map(|frame| frame_line(frame) + &times));
        }
        lines
    }

    fn new(reason: &str, message: String, exit_code: u8) -> Self {
        Self { reason: reason.to_owned(), message, details: BTreeMap::new(), exit_code, path: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&escape_untrusted(&self.message, MAX_SHOWN_CHARS))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The command line is its own operator: what a service would log, the user is told.
        let message = match &error {
            Error::Internal { source: Some(source), .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        let details = error.details().into_iter().map(|(key, value)| (key.to_owned(), value));
        Self::answered(error.reason(), message, details)
    }
}

fn decode_detail(key: String, value: String) -> (String, Value) {
    let decoded = if JSON_DETAILS.contains(&key.as_str()) {
        serde_json::from_str(&value).unwrap_or(Value::String(value))
    } else {
        Value::String(value)
    };
    (key, decoded)
}

fn problem_line(problem: &Value, path: Option<&str>) -> String {
    let message = field(problem, "message");
    let Some(line) = problem["line"].as_u64() else {
        return format!("  {message}");
    };
    let column = problem["column"].as_u64().unwrap_or(1);
    let key = field(problem, "path");
    let key = if key.is_empty() { key } else { format!("{key}: ") };
    format!("{}:{line}:{column}: {key}{message}", path.unwrap_or("manifest.yaml"))
}

fn frame_line(frame: &Value) -> String {
    let function = field(frame, "function");
    match (&frame["location"], frame["module_offset"].as_u64()) {
        (Value::String(_), _) => format!("  in {function} at {}", field(frame, "location")),
        (_, Some(offset)) => format!("  in {function} at module offset {offset:#x}"),
        _ => format!("  in {function}"),
    }
}

fn field(value: &Value, name: &str) -> String {
    escape_untrusted(value[name].as_str().unwrap_or_default(), MAX_SHOWN_CHARS)
}

/// Writes a result to stdout. A reader that went away is no error: `mentat … | head` is fine.
///
/// # Errors
/// When stdout cannot take it for another reason, such as a full disk.
pub(crate) fn write_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::system("writing to stdout", &error))
        }
        _ => Ok(()),
    }
}

/// Why nothing more is written while an execution goes on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody reads it any more.
    Unread,
    /// It cannot be written.
    Failed(Failure),
}

/// Writes a part of a result to stdout, whose reader may go away before the end.
///
/// # Errors
/// When there is no use in writing more.
pub(crate) fn write_part(bytes: &[u8]) -> Result<(), Stop> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Stop::Unread,
        _ => Stop::Failed(Failure::system("writing to stdout", &error)),
    })
}

/// The same, as one line of JSON.
///
/// # Errors
/// As [`write_part`].
pub(crate) fn write_json_part<T: Serialize + ?Sized>(value: &T) -> Result<(), Stop> {
    let line = serde_json::to_vec(value);
    let mut line = line.map_err(|error| Stop::Failed(Failure::system("writing JSON", &error.into())))?;
    line.push(b'\n');
    write_part(&line)
}

/// Writes a result to stdout as one line of JSON.
///
/// # Errors
/// As [`write_stdout`].
pub(crate) fn write_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let mut line =
        serde_json::to_vec(value).map_err(|error| Failure::system("writing JSON", &error.into()))?;
    line.push(b'\n');
    write_stdout(&line)
}

/// Writes an agent's log line to stderr.
pub(crate) fn write_log(level: LogLevel, message: &str) {
    let colour = match level {
        LogLevel::Error => Colour::Red,
        LogLevel::Warn => Colour::Yellow,
        LogLevel::Info => Colour::Green,
        LogLevel::Debug | LogLevel::Trace => Colour::Dim,
    };
    write_stderr(&format!("{} {message}\n", paint(colour, &format!("[{}]", level.as_str()))));
}

/// Says something to the user that is no result.
pub(crate) fn write_notice(text: &str) {
    write_stderr(&format!("{} {text}\n", paint(Colour::Yellow, "note:")));
}

/// Writes to stderr; there is nowhere to say that this failed.
pub(crate) fn write_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[derive(Clone, Copy)]
enum Colour {
    Red,
    Yellow,
    Green,
    Dim,
}

fn paint(colour: Colour, text: &str) -> String {
    if !environment::stderr_takes_colours() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Red => "1;31",
        Colour::Yellow => "33",
        Colour::Green => "32",
        Colour::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use mentat_runtime::error::{ModuleProblem, ModuleProblemKind, TrapFrame};

    use super::*;

    #[test]
    fn a_local_error_and_a_servers_look_alike() {
        let frame = TrapFrame { function: "f".into(), location: None, module_offset: Some(255) };
        let error = Error::Trap { message: "unreachable".into(), backtrace: vec![frame] };
        let details = error.details().into_iter().map(|(key, value)| (key.to_owned(), value));
        let remote = Failure::answered(error.reason(), error.to_string(), details.collect::<Vec<_>>());
        let local = Failure::from(error);
        assert_eq!(local.lines(), remote.lines());
        assert_eq!(local.lines(), ["  in f at module offset 0xff"]);
        assert_eq!(local.exit_code, 8);
        assert_eq!(serde_json::to_value(local.body()).unwrap(), serde_json::to_value(remote.body()).unwrap());
    }

    #[test]
    fn every_problem_of_a_module_has_its_line() {
        let problem = |message: &str| ModuleProblem {
            kind: ModuleProblemKind::UnsupportedImport,
            subject: "x".into(),
            message: message.into(),
        };
        let failure = Failure::from(Error::InvalidModule { problems: vec![problem("one"), problem("two")] });
        assert_eq!(failure.lines(), ["  one", "  two"]);
    }

    #[test]
    fn a_manifests_problem_points_at_its_place() {
        let problems = r#"[{"line":3,"column":5,"path":"wasm.memry","message":"unknown key"}]"#;
        let failure = Failure::answered(
            Reason::InvalidManifest,
            String::new(),
            [("problems".to_owned(), problems.to_owned())],
        )
        .in_file(Path::new("a/manifest.yaml"));
        assert_eq!(failure.lines(), ["a/manifest.yaml:3:5: wasm.memry: unknown key"]);
    }

    #[test]
    fn text_from_elsewhere_cannot_move_the_cursor() {
        let problems = serde_json::json!([{ "message": "\u{1b}[2Jgone" }]).to_string();
        let failure =
            Failure::answered(Reason::InvalidModule, String::new(), [("problems".to_owned(), problems)]);
        assert!(!failure.lines()[0].contains('\u{1b}'));
    }
}

//! The nouns of one execution: who calls, what is asked, what came of it. Plain values without
//! behaviour, shared by every door and by the executor; knows neither Wasmtime nor any transport.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mentat_manifest::{ByteCount, Fuel};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::{NoContext, Timestamp, Uuid};

use crate::error::Error;
use crate::events::EventBuffer;

mod event;

pub use event::{Ended, Event, Failure, NumberedEvent, Report, ReportKind, STDOUT_STREAM, is_plain};

/// Identifies one execution: a UUIDv7, so that ids sort by the time they were made (RFC 9562).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecutionId(Uuid);

/// On whose behalf a call is made; decided by a door from the client's credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Whom the execution is billed, limited and isolated under.
    pub tenant: Arc<str>,
    /// The credential's own name, for logs and audit; never the credential.
    pub name: Arc<str>,
}

/// One call of an agent, as every door hands it over after decoding.
#[derive(Debug)]
pub struct Invocation {
    /// Identifies this execution in logs, events and errors.
    pub execution_id: ExecutionId,
    /// Bytes that the agent reads as its input.
    pub input: Bytes,
    /// On whose behalf.
    pub caller: Caller,
    /// Where it says what it has to say while it runs; `None` where nobody can ever read that.
    pub events: Option<Arc<EventBuffer>>,
    /// Ends the execution when cancelled.
    pub cancel: CancellationToken,
}

/// How much an agent's log line matters; the numbers are those of the ABI's `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// 0: something failed.
    Error,
    /// 1: something is odd.
    Warn,
    /// 2: something worth knowing.
    Info,
    /// 3: for the agent's author.
    Debug,
    /// 4 and above: everything.
    Trace,
}

/// One line an agent logged: bounded, valid UTF-8, control and bidirectional characters escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// The text, already safe to print.
    pub message: String,
    /// When the host received it.
    pub timestamp: SystemTime,
}

/// What an execution cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel consumed; `None` for agents metered by epochs.
    pub fuel: Option<Fuel>,
    /// Largest sum of the instance's linear memories, in bytes.
    pub peak_memory: ByteCount,
    /// From admission to the first instruction: store, instance, start function.
    pub instantiation: Duration,
    /// From the first instruction of the entry point to its end.
    pub execution: Duration,
    /// Waiting for a permit.
    pub queued: Duration,
}

/// What a guest calls the host for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostCallKind {
    /// `abort`, AssemblyScript's way to give up.
    Abort,
    /// A capability is used.
    CapabilityInvoke,
    /// A capability is given back.
    CapabilityRelease,
    /// A capability is asked for.
    CapabilityRequest,
    /// `read_input`.
    Input,
    /// `last_error`.
    LastError,
    /// `log`.
    Log,
    /// Media.
    Media,
    /// Metrics.
    Metric,
    /// `write_output`.
    Output,
    /// `result_read`.
    Result,
    /// Streams of the `mentat` interface.
    Stream,
    /// Clocks.
    WasiClocks,
    /// Arguments, variables, and asking for the standard streams.
    WasiEnvironment,
    /// Ending.
    WasiExit,
    /// WASI's files; with WASI 0.1 also reads and writes of the standard streams.
    WasiFiles,
    /// `wasi:http`.
    WasiHttp,
    /// What has no kind of its own.
    WasiOther,
    /// Waiting: `poll`, and giving the thread away.
    WasiPoll,
    /// Random bytes.
    WasiRandom,
    /// Sockets and names of hosts.
    WasiSockets,
    /// WASI's streams, which version 0.2 reads and writes by.
    WasiStreams,
}

/// How often a guest called the host, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCalls([u64; HostCallKind::ALL.len()]);

/// A guest that ran to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the guest wrote; empty when it wrote nothing.
    pub output: Bytes,
    /// 0 is success; any other value is the guest's own verdict, and still a successful call.
    pub exit_code: i32,
}

/// What came of an execution, whether or not the guest ran to its end.
#[derive(Debug)]
pub struct Outcome {
    /// The guest's answer, or why there is none.
    pub result: Result<Answer, Error>,
    /// How often the guest called the host.
    pub host_calls: HostCalls,
    /// What it cost, failed or not.
    pub usage: Usage,
    /// What the guest logged, in order, within its limits.
    pub logs: Vec<LogLine>,
    /// Lines that went over the log limits and were not kept.
    pub logs_dropped: u64,
}

impl ExecutionId {
    /// A new id, stamped with the present time.
    #[must_use]
    pub fn new() -> Self {
        // Without a context: that is one lock for all, and orders what was made in the same millisecond.
        Self(Uuid::new_v7(Timestamp::now(NoContext)))
    }

    /// The time that it is stamped with, by the clock of whoever made it.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        let stamp = self.0.get_timestamp().map(|stamp| stamp.to_unix());
        let since = stamp.map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds));
        since.and_then(|since| UNIX_EPOCH.checked_add(since)).unwrap_or(UNIX_EPOCH)
    }

    /// Hands its text on, as it is displayed, without a formatter between.
    pub fn with_text<T>(&self, take: impl FnOnce(&str) -> T) -> T {
        take(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

impl Default for ExecutionId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

impl std::str::FromStr for ExecutionId {
    type Err = Error;

    /// # Errors
    /// `INVALID_REQUEST` when the text is not a UUID of version 7 in its hyphenated form.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Uuid::try_parse(text) {
            Ok(id) if id.get_version_num() == 7 && text.len() == 36 => Ok(Self(id)),
            _ => Err(Error::InvalidRequest {
                message: "execution_id is not a UUID of version 7, such as \
                          `01890a5d-ac96-774b-bcce-b302099a8057`; leave it out to have one made"
                    .into(),
            }),
        }
    }
}

impl Caller {
    /// The caller of a process that serves one user: the command line, an embedder, a loopback
    /// server without credentials.
    #[must_use]
    pub fn local() -> Self {
        Self { tenant: "default".into(), name: "local".into() }
    }
}

impl Invocation {
    /// An invocation of the local caller, with nobody listening.
    #[must_use]
    pub fn new(input: impl Into<Bytes>) -> Self {
        Self {
            execution_id: ExecutionId::new(),
            input: input.into(),
            caller: Caller::local(),
            events: None,
            cancel: CancellationToken::new(),
        }
    }
}

impl HostCallKind {
    /// All of them, each at its own place, in the order of their names.
    pub const ALL: [Self; 22] = [
        Self::Abort,
        Self::CapabilityInvoke,
        Self::CapabilityRelease,
        Self::CapabilityRequest,
        Self::Input,
        Self::LastError,
        Self::Log,
        Self::Media,
        Self::Metric,
        Self::Output,
        Self::Result,
        Self::Stream,
        Self::WasiClocks,
        Self::WasiEnvironment,
        Self::WasiExit,
        Self::WasiFiles,
        Self::WasiHttp,
        Self::WasiOther,
        Self::WasiPoll,
        Self::WasiRandom,
        Self::WasiSockets,
        Self::WasiStreams,
    ];

    /// Its name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::CapabilityInvoke => "capability_invoke",
            Self::CapabilityRelease => "capability_release",
            Self::CapabilityRequest => "capability_request",
            Self::Input => "input",
            Self::LastError => "last_error",
            Self::Log => "log",
            Self::Media => "media",
            Self::Metric => "metric",
            Self::Output => "output",
            Self::Result => "result",
            Self::Stream => "stream",
            Self::WasiClocks => "wasi_clocks",
            Self::WasiEnvironment => "wasi_environment",
            Self::WasiExit => "wasi_exit",
            Self::WasiFiles => "wasi_files",
            Self::WasiHttp => "wasi_http",
            Self::WasiOther => "wasi_other",
            Self::WasiPoll => "wasi_poll",
            Self::WasiRandom => "wasi_random",
            Self::WasiSockets => "wasi_sockets",
            Self::WasiStreams => "wasi_streams",
        }
    }
}

impl HostCalls {
    /// Counts one call.
    pub fn count(&mut self, kind: HostCallKind) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// The kinds that were called, and how often, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (HostCallKind, u64)> {
        HostCallKind::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

impl Outcome {
    /// An execution that ended before it began.
    #[must_use]
    pub fn failed(error: Error) -> Self {
        let (usage, host_calls) = (Usage::default(), HostCalls::default());
        Self { result: Err(error), host_calls, usage, logs: Vec::new(), logs_dropped: 0 }
    }
}

impl LogLevel {
    /// The level for the number a guest passed to `log`; unknown numbers are `Trace`.
    #[must_use]
    pub fn from_abi(level: i32) -> Self {
        match level {
            0 => Self::Error,
            1 => Self::Warn,
            2 => Self::Info,
            3 => Self::Debug,
            _ => Self::Trace,
        }
    }

    /// The level's name in lower case, as it appears in JSON and on the terminal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

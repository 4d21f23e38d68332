//! Everything that can go wrong, as one enum, and the stable reason codes that users see.
//!
//! The rows of the error table are `Reason`; each door maps a `Reason` to its own status in one
//! place, without a wildcard arm. Messages are safe to show to the caller: text that came from a
//! module, manifest or guest is bounded and escaped before it gets here, and what happened inside
//! the host is logged, not told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mentat_manifest::{ByteCount, Fuel, ManifestError};
use serde::Serialize;
use thiserror::Error as ThisError;

/// The stable code of an error; one row of the error table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The manifest is not one.
    InvalidManifest,
    /// The module cannot be executed here.
    InvalidModule,
    /// The request makes no sense.
    InvalidRequest,
    /// No such agent or version.
    AgentNotFound,
    /// No such stream.
    StreamNotFound,
    /// No such execution.
    ExecutionNotFound,
    /// The signature does not hold.
    AttestationRejected,
    /// No credential, or an unknown one.
    Unauthenticated,
    /// The guest used a power it was not granted, and policy ends such executions.
    SecurityViolation,
    /// Policy refuses the call.
    PolicyDenied,
    /// The fuel is used up.
    FuelExhausted,
    /// The guest needed more memory than its limit.
    MemoryLimit,
    /// The guest wrote more output than its limit.
    OutputTooLarge,
    /// The guest recursed too deeply.
    StackOverflow,
    /// The wall clock ran out.
    Timeout,
    /// The guest trapped.
    Trap,
    /// No room for another execution.
    Overloaded,
    /// What executes such agents cannot be reached.
    Unavailable,
    /// Too many calls by this caller.
    RateLimited,
    /// The caller gave up.
    Cancelled,
    /// A bug of ours.
    Internal,
}

/// One thing that is wrong with a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModuleProblem {
    /// What kind of thing.
    pub kind: ModuleProblemKind,
    /// What it concerns, such as an import's `module.name`; escaped.
    pub subject: String,
    /// What is wrong with it and what to do; escaped.
    pub message: String,
}

/// The kinds of thing that can be wrong with a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleProblemKind {
    /// An import that the host does not provide, or not with this signature.
    UnsupportedImport,
    /// An export that the module's shape requires.
    MissingExport,
    /// A memory or table beyond what the host allots.
    MemoryFault,
    /// The bytes are not a valid module.
    Malformed,
    /// The module is machine code already; only WebAssembly is accepted.
    Precompiled,
    /// Compiling took more time or memory than allowed.
    CompileLimit,
    /// What `init: snapshot` asks for cannot be done with it.
    Initialization,
}

/// What a guest ran out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Linear memory; its budget in bytes.
    Memory(ByteCount),
    /// The memory of a container; its limit in bytes.
    Container(ByteCount),
    /// Elements of all tables together; the engine's limit.
    TableElements(usize),
    /// The memory of all executions together, which others have; its limit in bytes.
    AllMemory(ByteCount),
}

/// A clock that ends executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimit {
    /// From the beginning to the end, wherever the guest is.
    Wall,
    /// What it spends asleep.
    Asleep,
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Wall => "did not finish within",
            Self::Asleep => "slept for more than the allowed",
        })
    }
}

/// One frame of a trap's backtrace, innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrapFrame {
    /// The function's demangled name, or `<function N>`; escaped.
    pub function: String,
    /// Source file and line where the module carries debug information.
    pub location: Option<String>,
    /// Byte offset in the module, to be used with a disassembler.
    pub module_offset: Option<u64>,
}

/// The runtime's errors; cheap enough to clone for every caller that waited for the same work.
/// `Display` is the sentence for the caller; `reason` the code.
#[derive(Clone, Debug, ThisError)]
pub enum Error {
    /// See the manifest's own list of problems.
    #[error(transparent)]
    InvalidManifest(#[from] ManifestError),
    /// Every problem found, up to a bound.
    #[error("the module cannot be executed: {}", list_problems(.problems))]
    InvalidModule {
        /// At least one.
        problems: Vec<ModuleProblem>,
    },
    /// What was wrong and what to do.
    #[error("{message}")]
    InvalidRequest {
        /// A sentence.
        message: String,
    },
    /// The agent, or the version that was asked for, is not loaded.
    #[error("agent `{agent}` is not loaded; load it with `mentat load` or `LoadAgent`")]
    AgentNotFound {
        /// The id, with `@version` where one was asked for; escaped.
        agent: String,
    },
    /// The execution is neither running nor remembered.
    #[error("execution `{execution_id}` is unknown; finished executions are remembered for a while only")]
    ExecutionNotFound {
        /// The id that was asked for.
        execution_id: String,
    },
    /// There is nobody who writes that stream, and nothing of it is kept.
    #[error("stream `{stream_id}` is unknown; what an execution said is kept for a while after its end only")]
    StreamNotFound {
        /// The id that was asked for.
        stream_id: String,
    },
    /// The call needs a credential.
    #[error("{message}")]
    Unauthenticated {
        /// What was missing; never the credential itself.
        message: String,
    },
    /// The agent is not signed as it must be.
    #[error("agent `{agent}` is refused: {message}")]
    AttestationRejected {
        /// The id and the version.
        agent: String,
        /// The cause in one word, which never changes.
        code: &'static str,
        /// The cause, and what to do; escaped.
        message: String,
    },
    /// The caller may not do this.
    #[error("{message}")]
    PolicyDenied {
        /// What was refused and by which rule.
        message: String,
    },
    /// The guest asked for a power that it may not have, and the operator ends such executions.
    #[error("the agent was ended for asking for what it may not have: {message}")]
    SecurityViolation {
        /// What was denied and by which rule.
        message: String,
    },
    /// The guest used up its fuel.
    #[error(
        "the agent used up its fuel of {limit}; raise `wasm.fuel` in its manifest, or the caller's own limit"
    )]
    FuelExhausted {
        /// The budget that was in force.
        limit: Fuel,
    },
    /// The guest asked for more memory, or larger tables, than its limit and did not recover.
    #[error("the agent needed more {shortage}{}", trap_suffix(.trap))]
    MemoryLimit {
        /// What it ran out of.
        shortage: Shortage,
        /// How the guest ended, where it trapped after the refusal.
        trap: Option<String>,
    },
    /// The guest wrote more output than its limit.
    #[error("the agent wrote more than {limit} of output, its limit")]
    OutputTooLarge {
        /// The budget that was in force.
        limit: ByteCount,
    },
    /// The guest's call stack is exhausted.
    #[error("the agent's call stack is exhausted; its recursion is too deep{}", innermost(.backtrace))]
    StackOverflow {
        /// Innermost first, bounded.
        backtrace: Vec<TrapFrame>,
    },
    /// The wall clock ran out, wherever the guest was: computing, or waiting in a host call.
    #[error("the agent {clock} {}", humantime(.limit))]
    Timeout {
        /// The budget that was in force.
        limit: Duration,
        /// Which clock ran out.
        clock: TimeLimit,
    },
    /// The guest trapped.
    #[error("the agent trapped: {message}{}", innermost(.backtrace))]
    Trap {
        /// The kind of trap, or the guest's own abort message; escaped.
        message: String,
        /// Innermost first, bounded.
        backtrace: Vec<TrapFrame>,
    },
    /// Every place is taken and the queue is full, or waiting took too long.
    #[error("{message}")]
    Overloaded {
        /// What is full.
        message: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// What executes such agents, as a container engine, cannot be reached, or has lost what it needs.
    #[error("{message}")]
    Unavailable {
        /// What it is, and what to do.
        message: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The caller gave up or someone called `CancelExecution`.
    #[error("the execution was cancelled")]
    Cancelled,
    /// A bug or a broken host. The message says only where; the cause is in the log.
    #[error("internal error: {message}")]
    Internal {
        /// Which step failed, without private details.
        message: String,
        /// What happened, for the log.
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
}

impl fmt::Display for Shortage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(limit) => {
                write!(
                    formatter,
                    "memory than its limit of {limit}; raise `wasm.memory.maximum` in its manifest"
                )
            }
            Self::Container(limit) => {
                write!(
                    formatter,
                    "memory than its limit of {limit}; raise `resources.memory` in its manifest"
                )
            }
            Self::TableElements(limit) => {
                write!(formatter, "table elements than the {limit} of `engine.table_elements`")
            }
            Self::AllMemory(limit) => {
                write!(formatter, "memory than is left of the {limit} of `engine.memory_budget`")
            }
        }
    }
}

impl Reason {
    /// Every row of the error table, in its order.
    pub const ALL: [Self; 21] = [
        Self::InvalidManifest,
        Self::InvalidModule,
        Self::InvalidRequest,
        Self::AgentNotFound,
        Self::StreamNotFound,
        Self::ExecutionNotFound,
        Self::AttestationRejected,
        Self::Unauthenticated,
        Self::SecurityViolation,
        Self::PolicyDenied,
        Self::FuelExhausted,
        Self::MemoryLimit,
        Self::OutputTooLarge,
        Self::StackOverflow,
        Self::Timeout,
        Self::Trap,
        Self::Overloaded,
        Self::Unavailable,
        Self::RateLimited,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The code, as it stands in `google.rpc.ErrorInfo.reason` and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidManifest => "INVALID_MANIFEST",
            Self::InvalidModule => "INVALID_MODULE",
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::AgentNotFound => "AGENT_NOT_FOUND",
            Self::StreamNotFound => "STREAM_NOT_FOUND",
            Self::ExecutionNotFound => "EXECUTION_NOT_FOUND",
            Self::AttestationRejected => "ATTESTATION_REJECTED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::SecurityViolation => "SECURITY_VIOLATION",
            Self::PolicyDenied => "POLICY_DENIED",
            Self::FuelExhausted => "FUEL_EXHAUSTED",
            Self::MemoryLimit => "MEMORY_LIMIT",
            Self::OutputTooLarge => "OUTPUT_TOO_LARGE",
            Self::StackOverflow => "STACK_OVERFLOW",
            Self::Timeout => "TIMEOUT",
            Self::Trap => "TRAP",
            Self::Overloaded => "OVERLOADED",
            Self::Unavailable => "UNAVAILABLE",
            Self::RateLimited => "RATE_LIMITED",
            Self::Cancelled => "CANCELLED",
            Self::Internal => "INTERNAL",
        }
    }

    /// What it means and what to do, for the error page.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::InvalidManifest => "the manifest is not valid; `problems` names each line and key",
            Self::InvalidModule => {
                "the module cannot run here; `problems` names each unsupported import, missing export and memory fault"
            }
            Self::InvalidRequest => "the request makes no sense; the message says which part",
            Self::AgentNotFound => "no such agent or version is loaded; load it first",
            Self::StreamNotFound => "no such stream",
            Self::ExecutionNotFound => "the execution is neither running nor remembered",
            Self::AttestationRejected => {
                "the agent is not signed, or its signature does not hold; `code` says why in one word"
            }
            Self::Unauthenticated => "the call needs an API key of this server",
            Self::SecurityViolation => "the agent used a power it was not granted, and was ended for it",
            Self::PolicyDenied => "policy refuses the call",
            Self::FuelExhausted => {
                "the agent used up its fuel; raise `wasm.fuel`, or look for an endless loop"
            }
            Self::MemoryLimit => "the agent needed more memory than its limit; raise `wasm.memory.maximum`",
            Self::OutputTooLarge => "the agent wrote more output than its limit; raise `wasm.max_output`",
            Self::StackOverflow => "the agent recursed too deeply; `backtrace` says where",
            Self::Timeout => "the agent did not finish in time; raise `wasm.timeout_ms`",
            Self::Trap => "the agent trapped; `trap` says why and `backtrace` where",
            Self::Overloaded => "every place for executions is taken; try again after the time it says",
            Self::Unavailable => {
                "what the server needs for it (a container engine, a registry) cannot be reached at present; the message says what it is"
            }
            Self::RateLimited => "the caller calls too often; try again after the time it says",
            Self::Cancelled => "the caller gave up, or the execution was cancelled",
            Self::Internal => "a bug of ours, or a broken host; the server's log has the cause",
        }
    }

    /// The exit code of the command line for this row.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::InvalidManifest | Self::InvalidModule | Self::InvalidRequest => 2,
            Self::AgentNotFound | Self::StreamNotFound | Self::ExecutionNotFound => 3,
            Self::AttestationRejected | Self::Unauthenticated => 4,
            Self::SecurityViolation | Self::PolicyDenied => 5,
            Self::FuelExhausted | Self::MemoryLimit | Self::OutputTooLarge | Self::StackOverflow => 6,
            Self::Timeout => 7,
            Self::Trap => 8,
            Self::Overloaded | Self::Unavailable | Self::RateLimited => 9,
            Self::Cancelled => 130,
            Self::Internal => 70,
        }
    }

    /// The row with this code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Error {
    /// The row of the error table.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::InvalidManifest(_) => Reason::InvalidManifest,
            Self::InvalidModule { .. } => Reason::InvalidModule,
            Self::InvalidRequest { .. } => Reason::InvalidRequest,
            Self::AgentNotFound { .. } => Reason::AgentNotFound,
            Self::ExecutionNotFound { .. } => Reason::ExecutionNotFound,
            Self::StreamNotFound { .. } => Reason::StreamNotFound,
            Self::Unauthenticated { .. } => Reason::Unauthenticated,
            Self::AttestationRejected { .. } => Reason::AttestationRejected,
            Self::PolicyDenied { .. } => Reason::PolicyDenied,
            Self::SecurityViolation { .. } => Reason::SecurityViolation,
            Self::FuelExhausted { .. } => Reason::FuelExhausted,
            Self::MemoryLimit { .. } => Reason::MemoryLimit,
            Self::OutputTooLarge { .. } => Reason::OutputTooLarge,
            Self::StackOverflow { .. } => Reason::StackOverflow,
            Self::Timeout { .. } => Reason::Timeout,
            Self::Trap { .. } => Reason::Trap,
            Self::Overloaded { .. } => Reason::Overloaded,
            Self::Unavailable { .. } => Reason::Unavailable,
            Self::Cancelled => Reason::Cancelled,
            Self::Internal { .. } => Reason::Internal,
        }
    }

    /// When to try again, where trying again makes sense.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }

    /// Structured facts for programs: the same keys on every surface. Values are bounded.
    #[must_use]
    pub fn details(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::InvalidManifest(error) => vec![("problems", json(&error.problems()))],
            Self::InvalidModule { problems } => vec![("problems", json(problems))],
            Self::AgentNotFound { agent } => vec![("agent", agent.clone())],
            Self::AttestationRejected { agent, code, .. } => {
                vec![("agent", agent.clone()), ("code", (*code).to_owned())]
            }
            Self::ExecutionNotFound { execution_id } => vec![("execution_id", execution_id.clone())],
            Self::StreamNotFound { stream_id } => vec![("stream_id", stream_id.clone())],
            Self::FuelExhausted { limit } => vec![("limit_fuel", limit.0.to_string())],
            Self::MemoryLimit { shortage, trap } => {
                let mut details = vec![match shortage {
                    Shortage::Memory(limit) | Shortage::Container(limit) | Shortage::AllMemory(limit) => {
                        ("limit_bytes", limit.0.to_string())
                    }
                    Shortage::TableElements(limit) => ("limit_table_elements", limit.to_string()),
                }];
                details.extend(trap.iter().map(|trap| ("trap", trap.clone())));
                details
            }
            Self::OutputTooLarge { limit } => vec![("limit_bytes", limit.0.to_string())],
            Self::StackOverflow { backtrace } => vec![("backtrace", json(backtrace))],
            Self::Timeout { limit, .. } => vec![("limit_ms", limit.as_millis().to_string())],
            Self::Trap { message, backtrace } => {
                vec![("trap", message.clone()), ("backtrace", json(backtrace))]
            }
            Self::Overloaded { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                vec![("retry_after_ms", retry_after.as_millis().to_string())]
            }
            Self::InvalidRequest { .. }
            | Self::Unauthenticated { .. }
            | Self::PolicyDenied { .. }
            | Self::SecurityViolation { .. }
            | Self::Cancelled
            | Self::Internal { .. } => Vec::new(),
        }
    }

    /// An error that can only be a bug or a broken host; the cause goes to the log, not to the caller.
    pub fn internal(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Internal { message: message.into(), source: Some(Arc::from(source.into())) }
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn list_problems(problems: &[ModuleProblem]) -> String {
    let lines: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    lines.join("; ")
}

fn innermost(backtrace: &[TrapFrame]) -> String {
    backtrace.first().map_or_else(String::new, |frame| match &frame.location {
        Some(location) => format!(" (in `{}` at {location})", frame.function),
        None => format!(" (in `{}`)", frame.function),
    })
}

fn trap_suffix(trap: &Option<String>) -> String {
    trap.as_ref().map_or_else(String::new, |trap| format!(" (it then ended with: {trap})"))
}

fn humantime(limit: &Duration) -> String {
    if limit.subsec_millis() == 0 {
        format!("{} s", limit.as_secs())
    } else {
        format!("{} ms", limit.as_millis())
    }
}

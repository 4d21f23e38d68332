//! The verbs of an operator who works on policies and on the audit log, with their arguments and their help.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::JsonArgument;

/// Check, test and show the policies that say which agent may have what
///
/// Policies are written in Cedar, in `*.cedar` files of the folder that a server is given as `policy.dir`. See
/// docs/set-policy.md.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    Check(PolicyCheckArguments),
    Test(PolicyTestArguments),
    Replay(PolicyReplayArguments),
    Show(PolicyShowArguments),
}

/// Check that policies are in order, as a server would
///
/// Every problem goes to stderr, one a line, as `path:line:column: message`; with any of them the exit code is 2.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat policy check policies\n\
\x20 mentat policy check policies/network.cedar --json")]
pub(crate) struct PolicyCheckArguments {
    /// Folder of policies, or one file
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Run the examples that lie beside policies
///
/// Examples stand in `tests.yaml` and `*.tests.yaml`: a list, each with `name`, `agent`, `capability`, and `expect`,
/// which is `allow` or `deny`. Those that come out otherwise go to stderr; with any of them the exit code is 2.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat policy test policies")]
pub(crate) struct PolicyTestArguments {
    /// Folder of policies and examples
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Decide recorded requests again, under other policies
///
/// Every decision of an audit log that policies were asked for is made again from its record. Those that would have come
/// out differently are printed, one a line. Whatever comes out, the exit code is 0; it is 2 where the policies are not in
/// order or the log cannot be read.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat policy replay --policy new-policies --audit /var/lib/mentat/audit")]
pub(crate) struct PolicyReplayArguments {
    /// Folder of policies, or one file
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) policy: PathBuf,
    /// Folder of the audit log
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) audit: PathBuf,
    #[command(flatten)]
    pub(crate) archive: ArchiveArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Print the default policies, or the schema that all policies are checked against
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat policy show > policies/default.cedar\n\
\x20 mentat policy show --schema")]
pub(crate) struct PolicyShowArguments {
    /// Print the schema: which agents, actions and resources policies can speak of
    #[arg(long)]
    pub(crate) schema: bool,
}

/// Check, search and follow a server's audit log
///
/// The log is a folder, `audit` in the server's data directory where `audit.dir` names no other. See docs/audit.md.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    Verify(AuditVerifyArguments),
    Query(AuditQueryArguments),
    Tail(AuditTailArguments),
}

/// Check that nothing in an audit log was changed, taken out, swapped or cut off
///
/// Every record is hashed anew and held against the tree, and the tree against the signed checkpoint. What is wrong goes
/// to stderr, one a line, with the number of the record; with anything wrong the exit code is 5.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat audit verify /var/lib/mentat/audit\n\
\x20 mentat audit verify audit --checkpoint last-week.checkpoint --key node-1.pub")]
pub(crate) struct AuditVerifyArguments {
    /// Folder of the log
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    /// Copy of an earlier checkpoint, kept elsewhere: proves that nothing before it was rewritten
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Copy of the log's `key.pub`, kept elsewhere; the one in the folder is believed otherwise
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) archive: ArchiveArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Print the records of an audit log that match, one JSON object a line
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat audit query audit --agent example.reader --denied\n\
\x20 mentat audit query audit --execution 01890a5d-ac96-774b-bcce-b302099a8057")]
pub(crate) struct AuditQueryArguments {
    /// Folder of the log
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) archive: ArchiveArgument,
    #[command(flatten)]
    pub(crate) filter: AuditFilter,
}

/// Print the last records of an audit log, and with `--follow` those that come
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat audit tail audit -n 20\n\
\x20 mentat audit tail audit --follow --denied")]
pub(crate) struct AuditTailArguments {
    /// Folder of the log
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    /// Records to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub(crate) lines: usize,
    /// Go on with records as they are written
    #[arg(short, long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) filter: AuditFilter,
}

/// Check the receipt of an execution, away from the server that gave it
///
/// Needs the server's public key, `key.pub` in the folder of its audit log, and nothing else. Checks that the key has signed
/// the receipt, that the record in it is in the log whose root the same key has signed, and that the receipt says what the
/// record says; with files given, that they are the ones that it is about. What was proven goes to stdout, one a line.
/// What is no receipt ends with exit code 2, one that does not hold with 4.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat verify-receipt receipt.json --key key.pub\n\
\x20 mentat verify-receipt receipt.json --key key.pub --input values.json --output result.json --json")]
pub(crate) struct VerifyReceiptArguments {
    /// The receipt
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) receipt: PathBuf,
    /// The server's public key, as it was got from its operator
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: PathBuf,
    /// File that must be what the agent read
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) input: Option<PathBuf>,
    /// File that must be what the agent wrote
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// File that must be the module that ran
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) module: Option<PathBuf>,
    /// File that must be the manifest of the agent
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) manifest: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Where the rest of an audit log is.
#[derive(Debug, Args)]
pub(crate) struct ArchiveArgument {
    /// Folder that `audit.archive` names, for records that retention has moved there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) archive: Option<PathBuf>,
}

/// Which records of an audit log are meant, all that is given must hold; and how they are printed.
#[derive(Debug, Args)]
pub(crate) struct AuditFilter {
    /// Records of this agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Records of this execution
    #[arg(long, value_name = "ID")]
    pub(crate) execution: Option<String>,
    /// Records of this tenant
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Records about decisions, about executions, about retention, or about records that were lost
    #[arg(long, value_enum)]
    pub(crate) event: Option<AuditEvent>,
    /// Records of something that was refused
    #[arg(long)]
    pub(crate) denied: bool,
    /// Records made at this time or later, in RFC 3339, such as `2026-11-24T09:00:00Z`
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<DateTime<Utc>>,
    /// Records made before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<DateTime<Utc>>,
    /// How records are printed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RecordFormat,
}

/// How records are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormat {
    /// As they are in the log
    #[default]
    Json,
    /// As events of the Open Cybersecurity Schema Framework, for security tools
    Ocsf,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditEvent {
    /// A capability was given or refused
    Decision,
    /// An execution ended
    Execution,
    /// Old records may be taken out
    Retention,
    /// Compiled code was refused that somebody changed
    Artifact,
    /// An agent was kept out for its signature, or for want of one
    Attestation,
    /// A caller stored or read an object itself
    Media,
    /// Records were lost
    Loss,
}

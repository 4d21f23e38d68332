//! The command line as the user writes it: every verb, its arguments and its help. Only describes and
//! parses; what a verb does is in `commands/`. The page docs/cli.md is made from this file.

mod analyze;
mod bench;
mod calls;
mod operator;
mod registry;
mod signing;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use mentat_manifest::{ByteCount, Capability, Fuel, LimitsRequest, Metering, parse_duration};
use mentat_runtime::security::offers::{Extension, Mount};

use crate::values::{
    Input, MediaDirectory, parse_env, parse_extension, parse_input, parse_media, parse_mount,
};

pub(crate) use self::analyze::AnalyzeArguments;
pub(crate) use self::bench::{BenchRuntimesArguments, BenchVerb};
pub(crate) use self::calls::{
    ExecuteArguments, ListArguments, LoadArguments, RollbackArguments, StreamArguments, UnloadArguments,
};
pub(crate) use self::operator::{
    ArchiveArgument, AuditEvent, AuditFilter, AuditQueryArguments, AuditTailArguments, AuditVerb,
    AuditVerifyArguments, PolicyCheckArguments, PolicyReplayArguments, PolicyShowArguments,
    PolicyTestArguments, PolicyVerb, RecordFormat, VerifyReceiptArguments,
};

pub(crate) use self::registry::{PullArguments, PushArguments, RegistryArguments};
pub(crate) use self::signing::{
    EncryptionArgument, KeygenArguments, PassphraseArgument, PkiCrlArguments, PkiInitArguments,
    PkiIssueArguments, PkiListArguments, PkiRenewArguments, PkiRevokeArguments, PkiVerb, SignArguments,
    VerifyArguments,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_CODES: &str = "\
Exit codes: the agent's own for `run` and `execute`; otherwise 0 success, 2 invalid manifest, module or \
request, 3 not found, 4 unauthenticated or wrongly signed, 5 denied, 6 fuel, memory, output or stack exhausted, 7 timeout, \
8 trap, 9 server overloaded or unreachable, 70 a bug of ours, 130 cancelled.";

/// Run WebAssembly agents, each in a sandbox with exactly the powers and the budget it was given
#[derive(Debug, Parser)]
#[command(name = "mentat", version, styles = STYLES, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(RunArguments),
    Inspect(InspectArguments),
    Validate(ValidateArguments),
    Analyze(AnalyzeArguments),
    Serve(ServeArguments),
    Load(LoadArguments),
    Execute(ExecuteArguments),
    List(ListArguments),
    Unload(UnloadArguments),
    Rollback(RollbackArguments),
    Stream(StreamArguments),
    Push(PushArguments),
    Pull(PullArguments),
    #[command(subcommand)]
    Policy(PolicyVerb),
    #[command(subcommand)]
    Audit(AuditVerb),
    VerifyReceipt(VerifyReceiptArguments),
    Keygen(KeygenArguments),
    Sign(SignArguments),
    Verify(VerifyArguments),
    #[command(subcommand)]
    Pki(PkiVerb),
    #[command(subcommand)]
    Bench(BenchVerb),
    Compile(CompileArguments),
    Completions(CompletionsArguments),
}

/// Run an agent once on this machine, without a server
///
/// AGENT is an agent's folder, its manifest, a bare `.wasm` module, or an agent in an OCI registry, `oci://…`. The agent's output goes to stdout
/// and nothing else does; its log goes to stderr while it runs. The exit code is the agent's own, or one
/// of those listed by `mentat --help`.
///
/// Nothing is permitted but what is given here, whatever the manifest asks for: directories by `--mount`, variables by
/// `--env`, secrets by `--secret`, services by `--extension`, media by `--media`, everything else by `--allow`. Arguments after `--` are for
/// WASI commands. Compiled code is kept, so that the second run starts at once.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat run agents/word-statistics --input 'to be or not to be'\n\
\x20 mentat run agents/line-sort --input @names.txt -- -u\n\
\x20 mentat run tool.wasm --mount ./pages:/pages --timeout 1m --json -- /pages")]
pub(crate) struct RunArguments {
    /// Agent's folder, manifest, `.wasm` module, or `oci://HOST/REPOSITORY[:TAG|@sha256:…]`
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) agent: PathBuf,
    #[command(flatten)]
    pub(crate) input: InputArgument,
    #[command(flatten)]
    pub(crate) stream: StreamArgument,
    /// Directory of this machine that the agent may open as GUEST: to look (`ro`, the default), to change without looking
    /// (`wo`), or both (`rw`)
    #[arg(long = "mount", value_name = "HOST:GUEST[:ro|wo|rw]", value_parser = parse_mount, value_hint = ValueHint::DirPath)]
    pub(crate) mounts: Vec<Mount>,
    /// Environment variable that the agent sees
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_env)]
    pub(crate) env: Vec<(String, String)>,
    /// Capability that the agent may have, such as `network:https:api.example.com` or `filesystem:readwrite:/tmp`
    #[arg(long = "allow", value_name = "CAPABILITY")]
    pub(crate) allow: Vec<Capability>,
    /// Secret that the agent uses and never sees: the value of the environment variable NAME, put into requests to these
    /// hosts, such as `api.example.com` (by HTTPS) or `http:127.0.0.1:8000`
    #[arg(long = "secret", value_name = "NAME=HOST[,HOST…]", value_parser = parse_env)]
    pub(crate) secrets: Vec<(String, String)>,
    /// Service that the agent calls as `extension:NAME`
    #[arg(long = "extension", value_name = "NAME=URL", value_parser = parse_extension)]
    pub(crate) extensions: Vec<(String, Extension)>,
    /// Directory of media, which the agent refers to as `media://NAME`: to read (`ro`, the default), to store (`wo`), or both
    /// (`rw`)
    #[arg(long, value_name = "DIR[:ro|wo|rw]", value_parser = parse_media, value_hint = ValueHint::DirPath)]
    pub(crate) media: Option<MediaDirectory>,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    /// Where compiled code is kept; `$XDG_CACHE_HOME/mentat` or `~/.cache/mentat` if not given
    #[arg(long, value_name = "DIR", env = "MENTAT_CACHE_DIR", hide_env_values = true, value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registry: RegistryArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
    /// Arguments of a WASI command
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

/// Show what a module is, what it wants, and whether it would load
///
/// Reads the module without running or compiling it: its shape and why, digest, imports, exports,
/// memories, source language, and everything that would keep it from being loaded. Given an agent's
/// folder or manifest, shows what the manifest asks for as well. The exit code is 0 whenever the module
/// could be read; `mentat validate` is the one that fails.
///
/// With a server's configuration, shows as well what that server would find of the agent's signature: how far it would be
/// trusted, or why it would be refused.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat inspect agents/metrics\n\
\x20 mentat inspect tool.wasm --json\n\
\x20 mentat inspect agents/metrics --config mentat.toml")]
pub(crate) struct InspectArguments {
    /// Module, agent's folder, manifest, or `oci://HOST/REPOSITORY[:TAG|@sha256:…]`
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) agent: PathBuf,
    /// Server's configuration, whose `[attestation]` section judges the signature
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Tenant that the agent would be loaded by
    #[arg(long, value_name = "NAME", default_value = "default", requires = "config")]
    pub(crate) tenant: String,
    #[command(flatten)]
    pub(crate) registry: RegistryArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Check manifests and their modules, and explain what they mean
///
/// Prints what each manifest comes to: its budget, its powers, its pins. Problems go to stderr, one a
/// line, as `path:line:column: key: message`; with any of them the exit code is 2.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat validate agents/metrics\n\
\x20 mentat validate */manifest.yaml --json")]
pub(crate) struct ValidateArguments {
    /// Agents' folders or manifests
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    pub(crate) agents: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Serve agents over gRPC and HTTP
///
/// Settings come from the configuration file, then from `MENTAT_…` variables, then from the options
/// here; `--print-config` shows all of them with comments and ends. When the doors are open, the line
/// `mentat is ready: grpc=ADDR http=ADDR` appears on stderr. SIGTERM or Ctrl-C lets running executions
/// finish and ends; a second one ends at once.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat serve\n\
\x20 mentat serve --grpc 127.0.0.1:0 --http 127.0.0.1:0 --data-dir ./agents-data\n\
\x20 mentat serve --print-config > mentat.toml")]
pub(crate) struct ServeArguments {
    /// Configuration file; `mentat.toml` in the present directory is read if it is there
    #[arg(
        long,
        value_name = "FILE",
        env = "MENTAT_CONFIG",
        hide_env_values = true,
        value_hint = ValueHint::FilePath
    )]
    pub(crate) config: Option<PathBuf>,
    /// Address of the gRPC door; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) grpc: Option<String>,
    /// Address of the HTTP door; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Where agents are kept
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Serve on other than loopback addresses without authentication
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Any setting by its key, such as `engine.max_executions=200`
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_env)]
    pub(crate) settings: Vec<(String, String)>,
    /// Print the whole configuration with comments, and end
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// Compile a module to machine code, under limits of time and memory
///
/// What `run` and `serve` start for each new module, so that a module which is made to choke the
/// compiler ends this process and no other. The artifact fits this build of mentat only and is not
/// accepted by `load`. On an error the message alone is printed, to stderr.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat compile agent.wasm --output agent.cwasm --metering fuel")]
pub(crate) struct CompileArguments {
    /// Module, or `-` for stdin
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) module: PathBuf,
    /// Where the artifact goes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// How executions will be metered
    #[arg(long, value_enum)]
    pub(crate) metering: MeteringArgument,
    /// How much work goes into the code
    #[arg(long, value_enum, default_value = "optimized")]
    pub(crate) tier: TierArgument,
    /// Stack that the agent's calls may use, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    pub(crate) stack: u64,
    /// Address space that each memory will reserve, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30)]
    pub(crate) memory_reservation: u64,
    /// CPU time that compiling may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) cpu_seconds: u64,
    /// Address space that compiling may take, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30)]
    pub(crate) memory: u64,
    /// Initialise the module, and compile it as it is afterwards (`init: snapshot`)
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// Give way to all other processes: nobody waits for this
    #[arg(long)]
    pub(crate) behind: bool,
}

/// Print a shell's completion script
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat completions bash > ~/.local/share/bash-completion/completions/mentat")]
pub(crate) struct CompletionsArguments {
    /// Shell that the script is for
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// What the agent reads.
#[derive(Debug, Args)]
pub(crate) struct InputArgument {
    /// What the agent reads: TEXT itself, a file's content, or stdin; `@@…` is a text that begins with `@`
    ///
    /// Without it the input is empty; stdin is read for `--input -` alone.
    #[arg(long, value_name = "TEXT|@FILE|-", value_parser = parse_input, allow_negative_numbers = true)]
    pub(crate) input: Option<Input>,
}

/// Limits of one execution.
#[derive(Debug, Args)]
pub(crate) struct LimitArguments {
    /// Operations that the agent may execute
    #[arg(long, value_name = "N")]
    pub(crate) fuel: Option<u64>,
    /// Linear memory that the agent may use, such as `64MB`
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteCount>,
    /// Wall-clock time that the agent may take, such as `500ms`, `5s` or `2m`
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

/// Where the server is and who calls.
#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// Address of the server's gRPC door
    #[arg(
        long,
        value_name = "URL",
        env = "MENTAT_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:50051"
    )]
    pub(crate) server: String,
    /// File whose first line is the API key; it may also be given in `MENTAT_API_KEY`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Roots that the server's certificate is checked against, in PEM; the system's where not given
    #[arg(long, value_name = "FILE", env = "MENTAT_CA", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// Own certificate, in PEM, for a server that knows its clients by theirs
    #[arg(long, value_name = "FILE", env = "MENTAT_CLIENT_CERT", hide_env_values = true, requires = "client_key",
        value_hint = ValueHint::FilePath)]
    pub(crate) client_cert: Option<PathBuf>,
    /// Private key of the own certificate, in PEM
    #[arg(long, value_name = "FILE", env = "MENTAT_CLIENT_KEY", hide_env_values = true, requires = "client_cert",
        value_hint = ValueHint::FilePath)]
    pub(crate) client_key: Option<PathBuf>,
}

/// What is written while the agent runs.
#[derive(Debug, Args)]
pub(crate) struct StreamArgument {
    /// Write the chunks of the agent's streams, and a WASI command's output, to stdout as they come; with `--json` every
    /// event as a line of JSON, the last of which is the result
    #[arg(long)]
    pub(crate) stream: bool,
}

/// How the result is written.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct JsonArgument {
    /// Write the result, or the error, to stdout as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// How executions are metered.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MeteringArgument {
    /// By counting operations
    Fuel,
    /// By time alone
    Epoch,
}

/// How much work goes into code.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TierArgument {
    /// One pass: soon there, and slower
    Baseline,
    /// All that the compiler can
    Optimized,
}

impl LimitArguments {
    /// What these ask for.
    pub(crate) fn request(&self) -> LimitsRequest {
        LimitsRequest {
            fuel: self.fuel.map(Fuel),
            memory_bytes: self.memory,
            timeout: self.timeout,
            ..LimitsRequest::default()
        }
    }
}

impl ExecuteArguments {
    /// The capabilities that are left, where some are taken away.
    pub(crate) fn left(&self) -> Option<Vec<Capability>> {
        (!self.only.is_empty()).then(|| self.only.iter().flatten().cloned().collect())
    }
}

impl From<MeteringArgument> for Metering {
    fn from(metering: MeteringArgument) -> Self {
        match metering {
            MeteringArgument::Fuel => Self::Fuel,
            MeteringArgument::Epoch => Self::Epoch,
        }
    }
}

impl Verb {
    /// Whether errors are to be written as JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Run(arguments) => arguments.json.json,
            Self::Inspect(arguments) => arguments.json.json,
            Self::Validate(arguments) => arguments.json.json,
            Self::Analyze(arguments) => arguments.json.json,
            Self::Bench(BenchVerb::Runtimes(arguments)) => arguments.json.json,
            Self::Load(arguments) => arguments.json.json,
            Self::Execute(arguments) => arguments.json.json,
            Self::List(arguments) => arguments.json.json,
            Self::Unload(arguments) => arguments.json.json,
            Self::Rollback(arguments) => arguments.json.json,
            Self::Stream(arguments) => arguments.json.json,
            Self::Push(arguments) => arguments.json.json,
            Self::Pull(arguments) => arguments.json.json,
            Self::Policy(PolicyVerb::Check(arguments)) => arguments.json.json,
            Self::Policy(PolicyVerb::Test(arguments)) => arguments.json.json,
            Self::Policy(PolicyVerb::Replay(arguments)) => arguments.json.json,
            Self::Audit(AuditVerb::Verify(arguments)) => arguments.json.json,
            Self::VerifyReceipt(arguments) => arguments.json.json,
            Self::Sign(arguments) => arguments.json.json,
            Self::Verify(arguments) => arguments.json.json,
            Self::Pki(PkiVerb::Issue(arguments)) => arguments.json.json,
            Self::Pki(PkiVerb::Renew(arguments)) => arguments.json.json,
            Self::Pki(PkiVerb::Revoke(arguments)) => arguments.json.json,
            Self::Pki(PkiVerb::List(arguments)) => arguments.json.json,
            Self::Audit(AuditVerb::Query(_) | AuditVerb::Tail(_))
            | Self::Policy(PolicyVerb::Show(_))
            | Self::Pki(PkiVerb::Init(_) | PkiVerb::Crl(_))
            | Self::Keygen(_)
            | Self::Serve(_)
            | Self::Compile(_)
            | Self::Completions(_) => false,
        }
    }
}

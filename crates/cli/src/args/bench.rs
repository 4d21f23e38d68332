//! The verb that measures, with its arguments and its help.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{InputArgument, JsonArgument};

/// Measure what agents cost on this machine
#[derive(Debug, Subcommand)]
pub(crate) enum BenchVerb {
    Runtimes(BenchRuntimesArguments),
}

/// Execute an agent that is both a module and an image in both runtimes, and compare what that costs
///
/// A server of its own is started for it, with its data in a temporary folder, and asked by gRPC as any other is. The agent is
/// executed as its module, in a new container each time, and, where its manifest says `instances: reuse`, in containers that
/// are kept. Told are the time until it is ready, until its first answer, the start, one answer after another, several at a
/// time, and the memory of one. What is measured is this machine, with all that it does besides.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat bench runtimes ./summary --input @question.json\n\
\x20 mentat bench runtimes ./summary --rounds 100 --parallel 8 --json > here.json")]
pub(crate) struct BenchRuntimesArguments {
    /// Agent's folder, or its manifest: with a module and an `image`
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) agent: PathBuf,
    #[command(flatten)]
    pub(crate) input: InputArgument,
    /// Executions of each kind, one after another, and again several at a time
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rounds: u32,
    /// Executions at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) parallel: u32,
    /// Socket of the container engine that has the image
    #[arg(long, value_name = "PATH", default_value = "/run/podman/podman.sock", value_hint = ValueHint::FilePath)]
    pub(crate) socket: PathBuf,
    /// Setting of the server, as of `mentat serve`; for an agent that needs powers, say
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

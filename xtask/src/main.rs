//! Tasks for developers of this project: `cargo xtask --help` lists them. Never shipped.
//! Owns the command line alone; each task is in the file of its name.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks to the terminal")]

mod agents;
mod bench;
mod client;
mod codegen;
mod counts;
mod demo;
mod documents;
mod fuzz;
mod order;
mod process;
mod test;
mod tidy;
mod toolchains;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::counts::Then;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks for developers of this project")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the example agents from source, installing the toolchains that are missing
    Agents {
        /// Names of folders in `agents/`; all of them when none is given
        names: Vec<String>,
    },
    /// Measure what things cost, beside a floor in the same run; fails where something costs more than it may
    Bench {
        /// Groups whose names hold this; all of them where left out
        filter: Option<String>,
        /// Times that what costs microseconds is measured; longer things are measured less often
        #[arg(long)]
        rounds: Option<u32>,
        /// Count instructions instead, under callgrind, and compare with `bench/counts.json`
        #[arg(long, conflicts_with_all = ["filter", "rounds"])]
        counts: bool,
        /// Write what was counted to `bench/counts.json`
        #[arg(long, requires = "counts")]
        write: bool,
    },
    /// Generate the Rust and the Python of the wire contract in `proto/`
    Codegen {
        /// Only compare with what is committed
        #[arg(long)]
        check: bool,
    },
    /// Serve four example agents, execute each on real input, and print what it cost
    Demo,
    /// Run a fuzz target of `fuzz/targets` under libFuzzer (needs a nightly compiler)
    Fuzz {
        /// Name of the target
        target: String,
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Have the linker put what requests run side by side: writes `crates/cli/requests.ld` (needs valgrind)
    Order,
    /// Test everything: what continuous integration runs
    Test {
        /// Part to run, and no other; may be given several times
        #[arg(long, value_name = "PART")]
        only: Vec<String>,
        /// Part to leave out; may be given several times
        #[arg(long, value_name = "PART")]
        skip: Vec<String>,
    },
    /// Check walls between crates and rooms, names, headers, lengths, links
    Tidy,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Agents { names } => agents::build(&names).map(drop),
        Task::Bench { counts: true, write: true, .. } => counts::counts(Then::Write),
        Task::Bench { counts: true, write: false, .. } => counts::counts(Then::Compare),
        Task::Bench { filter, rounds, .. } => bench::bench(filter.as_deref(), rounds),
        Task::Codegen { check: true } => codegen::install_and_generate(codegen::Mode::Check),
        Task::Codegen { check: false } => codegen::install_and_generate(codegen::Mode::Write),
        Task::Demo => demo::demo(),
        Task::Fuzz { target, seconds } => fuzz::fuzz(&target, seconds),
        Task::Order => order::order(),
        Task::Test { only, skip } => test::test(&only, &skip),
        Task::Tidy => tidy::tidy(),
    };
    if let Err(error) = done {
        // Without a backtrace, which would push what the failed program said off the screen.
        eprintln!("\nerror: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The names of all tasks, for checking that documents name no other.
fn task_names() -> Vec<String> {
    Arguments::command().get_subcommands().map(|task| task.get_name().to_owned()).collect()
}

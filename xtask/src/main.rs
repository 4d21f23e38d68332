//! Tasks for developers of this project: `cargo xtask --help` lists them. Never shipped.
//! Owns the command line alone; each task is in the file of its name.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks to the terminal")]

mod agents;
mod process;
mod toolchains;

use clap::{Parser, Subcommand};

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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Agents { names } => agents::build(&names).map(drop),
    }
}

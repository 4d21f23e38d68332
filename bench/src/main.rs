//! What things cost: `cargo xtask bench [FILTER]`. Everything is measured beside a floor, in turns and in the same
//! run, so that a busy machine slows both alike. Prints a table, writes the same as JSON, and fails where something
//! costs more than it may. What is wanted beyond that is printed too, and decides nothing.

mod attestations;
mod client;
mod compute;
mod container;
mod count;
mod decisions;
mod executions;
mod fairness;
mod figures;
mod floor;
mod grpc;
mod http;
mod idle;
mod load;
mod measure;
mod modules;
mod parked;
mod raw;
mod scaling;
mod server;
mod start;
mod streams;
mod workshop;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::figures::Row;
use crate::measure::{Measure, Plan};

/// As `mentat` has it, for the floors as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "mentat-bench", about = "Measures what things cost", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Groups whose names hold this; all of them where left out
    filter: Option<String>,
    /// Where the figures are written
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Times that what costs microseconds is measured; longer things are measured less often
    #[arg(long, default_value_t = 60)]
    rounds: u32,
}

/// What this program does as a process of its own.
#[derive(Subcommand)]
enum Part {
    /// Be a floor of the service, until killed
    #[command(hide = true)]
    ServeFloor {
        kind: floor::Kind,
        /// Name of the module that is executed
        #[arg(long, default_value = "tiny")]
        module: String,
    },
    /// Execute the tiny module so often, for counting instructions
    #[command(hide = true)]
    CountExecutions { way: count::Way, times: u32 },
    /// Ask the service for the tiny module so often, which callgrind counts into a file
    #[command(hide = true)]
    CountRequests { door: count::Door, times: u32, counts: PathBuf },
}

/// What is written as JSON.
#[derive(Serialize)]
struct Figures {
    /// Of this form.
    version: u32,
    rounds: u32,
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: &'static str,
    rows: Vec<Row>,
}

const GROUPS: [(&str, Measure); 17] = [
    ("decision", decisions::decisions),
    ("attestation", attestations::attestations),
    ("execution", executions::executions),
    ("sandbox", executions::sandboxes),
    ("request", executions::requests),
    ("scaling", scaling::scaling),
    ("compute", compute::compute),
    ("start", start::start),
    ("python", start::python),
    ("container", container::container),
    ("idle", idle::idle),
    ("grpc", grpc::grpc),
    ("http", http::http),
    ("fairness", fairness::fairness),
    ("streams", streams::streams),
    ("load", load::load),
    ("parked", parked::parked),
];

fn main() -> anyhow::Result<()> {
    let Arguments { part, filter, json, rounds } = Arguments::parse();
    match part {
        Some(Part::ServeFloor { kind, module }) => floor::serve(kind, &module),
        Some(Part::CountExecutions { way, times }) => count::executions(way, times),
        Some(Part::CountRequests { door, times, counts }) => count::requests(door, times, &counts),
        None => measure(filter.as_deref(), &json, rounds),
    }
}

#[allow(clippy::print_stdout, reason = "a developer's tool talks to the terminal")]
fn measure(filter: Option<&str>, json: &Path, rounds: u32) -> anyhow::Result<()> {
    let plan = Plan { rounds, slice: Duration::from_millis(4) };
    let _leavings = server::Leavings;
    let mut groups = Vec::new();
    for (name, measure) in GROUPS {
        if filter.is_none_or(|filter| name.contains(filter)) {
            let rows = measure(&plan).with_context(|| format!("measuring `{name}`"))?;
            figures::print(name, &rows);
            groups.push(Group { name, rows });
        }
    }
    if groups.is_empty() {
        let names = GROUPS.map(|(name, _)| name).join(", ");
        bail!("no group is called `{}`; there are {names}", filter.unwrap_or_default());
    }
    let rows = groups.iter().flat_map(|group| &group.rows);
    let over: Vec<String> = rows.filter(|row| row.is_over()).map(|row| row.name.clone()).collect();
    let figures = serde_json::to_vec_pretty(&Figures { version: 2, rounds, groups })?;
    std::fs::write(json, figures).with_context(|| format!("cannot write `{}`", json.display()))?;
    println!("written to {}", json.display());
    if !over.is_empty() {
        bail!("over what they may cost: {}", over.join(", "));
    }
    Ok(())
}

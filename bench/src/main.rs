//! What things cost: `cargo xtask bench [FILTER]`. Everything is measured beside a floor, in turns and in the same
//! process, so that a busy machine slows both alike. Prints a table, writes the same as JSON, and fails where something
//! costs more than it may.

#![allow(clippy::print_stdout, reason = "a developer's tool talks to the terminal")]

mod decisions;
mod executions;
mod measure;
mod raw;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use serde::Serialize;

use crate::measure::{Plan, Row};

/// As `mentat` has it, for the floors as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "mentat-bench", about = "Measures what things cost")]
struct Arguments {
    /// Groups whose names hold this; all of them where left out
    filter: Option<String>,
    /// Where the figures are written
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// Times that everything is measured
    #[arg(long, default_value_t = 60)]
    rounds: u32,
}

/// What is written as JSON.
#[derive(Serialize)]
struct Figures {
    /// Of this form.
    version: u32,
    rounds: u32,
    rows: Vec<Row>,
}

fn main() -> anyhow::Result<()> {
    let Arguments { filter, json, rounds } = Arguments::parse();
    let plan = Plan { rounds, slice: Duration::from_millis(4) };
    let groups: [(&str, measure::Measure); 4] = [
        ("decision", decisions::decisions),
        ("execution", executions::executions),
        ("sandbox", executions::sandboxes),
        ("request", executions::requests),
    ];
    let mut rows = Vec::new();
    for (name, measure) in groups {
        if filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())) {
            let measured = measure(&plan).with_context(|| format!("measuring `{name}`"))?;
            measure::print(name, &measured);
            rows.extend(measured);
        }
    }
    if rows.is_empty() {
        let names = groups.map(|(name, _)| name).join(", ");
        bail!("no group is called `{}`; there are {names}", filter.unwrap_or_default());
    }
    let over: Vec<String> = rows.iter().filter(|row| row.is_over()).map(|row| row.name.clone()).collect();
    let figures = serde_json::to_vec_pretty(&Figures { version: 1, rounds, rows })?;
    std::fs::write(&json, figures).with_context(|| format!("cannot write `{}`", json.display()))?;
    println!("written to {}", json.display());
    if !over.is_empty() {
        bail!("over what they may cost: {}", over.join(", "));
    }
    Ok(())
}

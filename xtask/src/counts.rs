//! `cargo xtask bench --counts`: how many instructions an execution of the tiny module takes, in the library and asked for at
//! the doors of the service, counted by callgrind and compared with `bench/counts.json`. A count is the same on a busy machine
//! as on an idle one, so it shows small changes that no clock can. Says nothing of the kernel's part, nor of waiting.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::bench::build;
use crate::process::{announced, run, workspace};

/// Ways of executing it that `mentat-bench` knows, and what they are called here.
const WAYS: [(Way, &str); 6] = [
    (Way::Library("raw"), "by wasmtime alone"),
    (Way::Library("granted"), "by the library"),
    (Way::Library("decided"), "decided on"),
    (Way::Library("recorded"), "decided on and recorded"),
    (Way::Service("http"), "asked for by HTTP"),
    (Way::Service("grpc"), "asked for by gRPC"),
];
/// Executions of the two runs whose difference is counted: all that belongs to the start is in both.
pub(crate) const FEW: u32 = 500;
pub(crate) const MANY: u32 = 2500;
/// A part of a count by which it differs from run to run at most.
const NOISE: f64 = 0.02;
/// What is committed.
const FILE: &str = "bench/counts.json";

/// Whether what is committed is replaced by what was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Compare,
    Write,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// `mentat-bench count-executions` itself.
    Library(&'static str),
    /// The service, which `mentat-bench count-requests` asks.
    Service(&'static str),
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct Counts {
    version: u32,
    /// Instructions of one execution, in all threads.
    instructions: BTreeMap<String, u64>,
}

/// Counts, prints, and compares or writes. A difference is told and decides nothing: other compilers count otherwise.
///
/// # Errors
/// There is no valgrind; it does not build or run; the committed counts cannot be read or written.
pub(crate) fn counts(then: Then) -> anyhow::Result<()> {
    find_valgrind()?;
    let program = build()?;
    let path = workspace().join(FILE);
    let committed = read(&path)?;
    let mut instructions = BTreeMap::new();
    for (way, name) in WAYS {
        let counted = announced(&format!("counting: {name}"), || per_execution(&program, way))?;
        instructions.insert(way.name().to_owned(), counted);
    }
    println!("{:<40}{:>14}{:>14}", "instructions of one execution", "counted", "committed");
    for (way, name) in WAYS {
        let counted = instructions.get(way.name()).copied().unwrap_or_default();
        match committed.get(way.name()).copied().filter(|committed| *committed > 0) {
            None => println!("  {name:<38}{counted:>14}{:>14}", "none"),
            Some(committed) => {
                let change = part(counted, committed) - 1.0;
                let remark = if change.abs() <= NOISE {
                    String::new()
                } else if change > 0.0 {
                    format!("  MORE by {:.1} %", change * 100.0)
                } else {
                    format!("  LESS by {:.1} %", -change * 100.0)
                };
                println!("  {name:<38}{counted:>14}{committed:>14}{remark}");
            }
        }
    }
    if then == Then::Write {
        let text = serde_json::to_string_pretty(&Counts { version: 1, instructions })?;
        fs::write(&path, format!("{text}\n")).with_context(|| format!("cannot write `{FILE}`"))?;
        println!("written to {FILE}");
    }
    Ok(())
}

/// Sees to it that there is valgrind, before anything is built for it.
///
/// # Errors
/// There is none.
pub(crate) fn find_valgrind() -> anyhow::Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        bail!("counting needs `valgrind`; install it, such as by `apt-get install valgrind`");
    }
    Ok(())
}

/// What is committed; nothing where there is no file.
fn read(path: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{FILE}`"))?;
    let counts: Counts =
        serde_json::from_str(&text).with_context(|| format!("`{FILE}` is not as it should be"))?;
    Ok(counts.instructions)
}

/// Instructions of one execution, as the difference of two runs.
fn per_execution(program: &Path, way: Way) -> anyhow::Result<u64> {
    let few = count(program, way, FEW)?;
    let many = count(program, way, MANY)?;
    Ok(many.saturating_sub(few) / u64::from(MANY - FEW))
}

/// Instructions of a whole run.
fn count(program: &Path, way: Way, times: u32) -> anyhow::Result<u64> {
    let output = match way {
        Way::Library(way) => {
            let output = output(way, times)?;
            let mut valgrind = Command::new("valgrind");
            valgrind.args(["--tool=callgrind", "--smc-check=all-non-file"]);
            valgrind.arg(format!("--callgrind-out-file={}", output.display()));
            valgrind.arg(program).args(["count-executions", way, &times.to_string()]);
            run(valgrind.current_dir(workspace()))?;
            output
        }
        Way::Service(door) => ask_service(program, door, times)?,
    };
    let text = fs::read_to_string(&output)?;
    let totals =
        text.lines().find_map(|line| line.strip_prefix("totals:")).context("callgrind told no totals")?;
    Ok(totals.trim().parse()?)
}

/// Asks the service at a door so often, and answers where callgrind has written what it did.
///
/// # Errors
/// There is no valgrind, or the service does not run.
pub(crate) fn ask_service(program: &Path, door: &str, times: u32) -> anyhow::Result<PathBuf> {
    let output = output(door, times)?;
    let mut asking = Command::new(program);
    asking.args(["count-requests", door, &times.to_string()]).arg(&output);
    run(asking.current_dir(workspace()))?;
    Ok(output)
}

fn output(name: &str, times: u32) -> anyhow::Result<PathBuf> {
    let folder = workspace().join("target/bench-counts");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{name}-{times}")))
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Library(name) | Self::Service(name) => name,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn part(one: u64, other: u64) -> f64 {
    one as f64 / other as f64
}

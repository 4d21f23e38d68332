//! `cargo xtask order`: writes `crates/cli/requests.ld`, which has the linker put the functions that an execution runs side by
//! side, in the order in which it runs them. A request goes once through hundreds of functions; among a hundred
//! thousand others, each of them has a page and lines of the cache that are mostly filled with its neighbours. Behind them
//! stand functions that the start of the service runs and that have no such neighbours: for each of them the system maps 64 KiB,
//! which count as the service's memory.
//!
//! Callgrind tells what they are, while the service is asked at both of its doors.

mod profile;
mod symbol;

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;

use anyhow::{Context, bail, ensure};

use self::profile::Profile;
use self::symbol::pattern;
use crate::bench::build;
use crate::counts::{FEW, MANY, ask_service, find_valgrind};
use crate::process::{announced, workspace};

/// What is written; the build script of `crates/cli` hands it to the linker.
const FILE: &str = "crates/cli/requests.ld";
/// The doors of the service, the one whose order comes first before the other.
const DOORS: [&str; 2] = ["http", "grpc"];
/// What is run in the place of instructions that callgrind's processor has not.
const IN_SOFTWARE: &str = "_4sha26sha2564soft";
/// Functions that the start runs which are put side by side, at most: the linker looks for each of them among all sections.
const MOST_OF_START: usize = 1000;
/// Functions that a request runs at least, unless something is wrong with what was read.
const FEWEST: usize = 200;

/// Finds out what requests run, and writes it down.
///
/// # Errors
/// There is no valgrind; the service does not build or run; what callgrind says is not understood.
pub(crate) fn order() -> anyhow::Result<()> {
    find_valgrind()?;
    let program = build()?;
    let (mut patterns, mut known, mut begun) = (Vec::new(), HashSet::new(), Profile::default());
    for door in DOORS {
        let [few, many] = [FEW, MANY].map(|times| {
            announced(&format!("asking by {door}, {times} times"), || {
                let told = fs::read_to_string(ask_service(&program, door, times)?)?;
                Profile::parse(&told).context("what callgrind says is not understood")
            })
        });
        // The start is in both.
        begun = few?;
        let functions = many?.per_request(&begun, MANY - FEW);
        ensure!(functions.len() >= FEWEST, "a request by {door} ran {} functions only", functions.len());
        let elsewhere = |name: &&String| !name.contains(IN_SOFTWARE);
        let new = functions.iter().filter(elsewhere).map(|name| pattern(name));
        patterns.extend(new.filter(|new| known.insert(new.clone())));
    }
    let start = begun.far_apart(patterns.len() + MOST_OF_START);
    // Callgrind has names of its own for what has none.
    let start = start.iter().filter(|name| !name.contains(['(', ' '])).map(|name| pattern(name));
    let start: Vec<String> = start.filter(|new| known.insert(new.clone())).collect();
    let path = workspace().join(FILE);
    fs::write(&path, script(&patterns, &start)?).with_context(|| format!("cannot write `{FILE}`"))?;
    println!("{} functions of requests and {} of the start written to {FILE}", patterns.len(), start.len());
    Ok(())
}

/// The linker's script. What else there is stays where it would be without.
fn script(requests: &[String], start: &[String]) -> anyhow::Result<String> {
    let mut text = String::from(
        "/* The functions that an execution runs, in this order, and such that the start runs. Written by `cargo xtask order`. */\n\
         SECTIONS\n{\n",
    );
    for (section, patterns) in [("requests", requests), ("start", start)] {
        writeln!(text, "  .text.{section} :\n  {{")?;
        for pattern in patterns {
            if pattern.chars().any(|one| one.is_whitespace() || "(){};\"".contains(one)) {
                bail!("`{pattern}` is no name for a linker");
            }
            // The second is what a function is called that another unit of the compiler's calls as well.
            writeln!(text, "    *(.text.{pattern} .text.{pattern}.llvm.*)")?;
        }
        text.push_str("  }\n");
    }
    text.push_str("}\nINSERT BEFORE .text;\n");
    Ok(text)
}

//! `cargo xtask test`: the one command that says whether the project is in order, for a developer and
//! for continuous integration alike. Runs its parts one after another, each by the program that a
//! developer would call by hand, stops at the first that fails, and ends with a table of what took how
//! long.
//!
//! Invariant: all parts build with the same profile and flags, so that nothing heavy is compiled twice.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::process::{run, workspace};
use crate::toolchains::{
    Toolchains, fetch_docker, install_browser, install_container_engine, install_npm_packages,
    install_openssl, install_registry,
};
use crate::{agents, client, codegen, demo, documents, tidy};

/// One part of the test.
struct Part {
    name: &'static str,
    about: &'static str,
    run: fn(&Toolchains) -> anyhow::Result<()>,
}

/// In the order in which they run: what is quick and often wrong comes first.
const PARTS: &[Part] = &[
    Part { name: "format", about: "every Rust file is formatted", run: format },
    Part { name: "tidy", about: "the walls, names and documents are in order", run: |_| tidy::tidy() },
    Part { name: "deny", about: "licences, bans and sources of what is depended on", run: deny },
    Part {
        name: "codegen",
        about: "generated code is what would be generated now",
        run: |toolchains| codegen::codegen(codegen::Mode::Check, toolchains),
    },
    Part {
        name: "agents",
        about: "the example agents compile from source",
        run: |_| agents::build(&[]).map(drop),
    },
    Part { name: "clippy", about: "no lint of the compiler or of clippy warns", run: clippy },
    Part { name: "tests", about: "every test of the workspace", run: tests },
    Part {
        name: "client",
        about: "the Python client and the sample orchestrator, as pip installs them, against a started server",
        run: test_client,
    },
    Part { name: "doc-tests", about: "the programs in doc comments", run: doc_tests },
    Part { name: "api-docs", about: "the API documentation builds without a warning", run: api_docs },
    Part {
        name: "documents",
        about: "the commands in the documents do what is said of them",
        run: follow_documents,
    },
];

/// Runs the parts; `only` alone where it names any, and never those of `skip`.
///
/// # Errors
/// A name that is no part; the first part that fails, with all that its program wrote.
pub(crate) fn test(only: &[String], skip: &[String]) -> anyhow::Result<()> {
    let parts = select(only, skip)?;
    let begin = Instant::now();
    let toolchains = Toolchains::install()?;
    let mut table = vec![("toolchains", begin.elapsed())];
    for part in parts {
        println!("── {}: {}", part.name, part.about);
        let start = Instant::now();
        let done = (part.run)(&toolchains);
        table.push((part.name, start.elapsed()));
        println!("── {}: {:.1} s", part.name, start.elapsed().as_secs_f64());
        if let Err(error) = done {
            print_table(&table, begin.elapsed());
            return Err(error.context(format!(
                "part `{}` failed; again with `cargo xtask test --only {}`",
                part.name, part.name
            )));
        }
    }
    print_table(&table, begin.elapsed());
    Ok(())
}

fn select(only: &[String], skip: &[String]) -> anyhow::Result<Vec<&'static Part>> {
    for name in only.iter().chain(skip) {
        if PARTS.iter().all(|part| part.name != name) {
            let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
            bail!("there is no part `{name}`; there are {}", known.join(", "));
        }
    }
    let named = |names: &[String], part: &Part| names.iter().any(|name| name == part.name);
    Ok(PARTS.iter().filter(|part| (only.is_empty() || named(only, part)) && !named(skip, part)).collect())
}

fn print_table(table: &[(&str, Duration)], total: Duration) {
    println!();
    for (name, took) in table {
        println!("{name:<18}{:>8.1} s", took.as_secs_f64());
    }
    println!("{:<18}{:>8.1} s", "in all", total.as_secs_f64());
}

fn format(_: &Toolchains) -> anyhow::Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"])).context("`cargo fmt` mends it").map(drop)
}

fn deny(toolchains: &Toolchains) -> anyhow::Result<()> {
    // The check reads the manifests of everything in the lock file, those of other systems among it.
    run(&mut cargo(&["fetch", "--locked", "--quiet"]))?;
    let mut deny = toolchains.program("cargo-deny");
    deny.args(["--locked", "--offline", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    run(deny.current_dir(workspace())).map(drop)
}

fn clippy(_: &Toolchains) -> anyhow::Result<()> {
    run(&mut cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])).map(drop)
}

/// Shows what the runner prints: its closing line counts the tests.
fn tests(toolchains: &Toolchains) -> anyhow::Result<()> {
    install_browser()?;
    install_registry()?;
    install_openssl()?;
    install_container_engine()?;
    fetch_docker()?;
    install_npm_packages(&workspace().join("tests/accessibility"))?;
    let mut nextest = toolchains.program("cargo-nextest");
    nextest.args(["nextest", "run", "--locked", "--workspace", "--cargo-quiet"]).current_dir(workspace());
    show(&mut nextest)
}

fn doc_tests(_: &Toolchains) -> anyhow::Result<()> {
    run(&mut cargo(&["test", "--locked", "--workspace", "--doc", "--quiet"])).map(drop)
}

fn api_docs(_: &Toolchains) -> anyhow::Result<()> {
    let mut cargo = cargo(&["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
    run(cargo.env("RUSTDOCFLAGS", "-D warnings")).map(drop)
}

fn test_client(_: &Toolchains) -> anyhow::Result<()> {
    install_container_engine()?;
    agents::build(&[])?;
    client::test(&program_of_the_tests()?)
}

fn follow_documents(toolchains: &Toolchains) -> anyhow::Result<()> {
    install_registry()?;
    install_openssl()?;
    documents::follow(toolchains, &program_of_the_tests()?)
}

/// `mentat` as the tests have built it, with the same features of everything it is made of.
fn program_of_the_tests() -> anyhow::Result<std::path::PathBuf> {
    demo::build_program(&["test", "--workspace", "--test", "all", "--no-run"])
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).current_dir(workspace());
    cargo
}

/// Runs a program whose output is for the reader.
pub(crate) fn show(command: &mut Command) -> anyhow::Result<()> {
    let status = command.stdin(Stdio::null()).status().context("the program could not be started")?;
    if status.success() { Ok(()) } else { bail!("it ended with {status}; what is wrong stands above") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str], skip: &[&str]) -> anyhow::Result<Vec<&'static str>> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Ok(select(&owned(only), &owned(skip))?.iter().map(|part| part.name).collect())
    }

    #[test]
    fn parts_can_be_chosen_and_left_out() {
        assert_eq!(names(&[], &[]).unwrap().len(), PARTS.len());
        assert_eq!(names(&["tidy", "format"], &[]).unwrap(), ["format", "tidy"]);
        assert_eq!(names(&["tidy", "format"], &["tidy"]).unwrap(), ["format"]);
        assert!(!names(&[], &["tests"]).unwrap().contains(&"tests"));
    }

    #[test]
    fn an_unknown_part_is_answered_with_the_known_ones() {
        let error = names(&[], &["clipy"]).unwrap_err().to_string();
        assert!(error.contains("no part `clipy`") && error.contains("clippy"), "{error}");
    }
}

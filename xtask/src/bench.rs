//! `cargo xtask bench [FILTER]`: builds what is measured, in the profile for it, and runs `bench/`. Knows nothing of what
//! it measures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::agents;
use crate::process::{run, workspace};

/// Measures, and prints what is measured.
///
/// # Errors
/// It does not build, no group has such a name, an answer is wrong, or something costs more than it may.
pub(crate) fn bench(filter: Option<&str>, rounds: Option<u32>) -> anyhow::Result<()> {
    let mut bench = Command::new(build()?);
    bench.args(filter).current_dir(workspace());
    if let Some(rounds) = rounds {
        bench.args(["--rounds", &rounds.to_string()]);
    }
    let status = bench.stdin(Stdio::null()).status().context("the benchmark could not be started")?;
    if status.success() { Ok(()) } else { bail!("it ended with {status}; what is wrong stands above") }
}

/// Builds the benchmark, the `mentat` that it starts, which lies beside it, and the guests; tells where the benchmark is.
///
/// # Errors
/// Something does not build.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    // Says what it builds, installs what that needs, and is quick when nothing is new.
    agents::build(&["log-summary", "metrics", "word-statistics"].map(str::to_owned))?;
    guests()?;
    // Both at once: what they share is then compiled once, with the features of both.
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--locked",
        "--profile",
        "bench",
        "--package",
        "mentat",
        "--package",
        "mentat-bench",
    ]);
    cargo.arg("--message-format=json-render-diagnostics").current_dir(workspace());
    // Some dependencies are built again where these change, and whoever runs cargo by hand has none of them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| text.starts_with(start)) {
            cargo.env_remove(&name);
        }
    }
    // What cargo says of its progress goes to the terminal, what it has built comes here.
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cargo could not be started")?;
    if !output.status.success() {
        bail!("it does not build; what is wrong stands above");
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_bench = message.pointer("/target/name") == Some(&"mentat-bench".into());
        is_bench.then(|| message.get("executable")?.as_str().map(PathBuf::from))?
    });
    programs.next_back().context("cargo built no benchmark")
}

/// Compiles the guests of `bench/guests`, and for this machine the programs of `bench/native`, that are older than their
/// source.
fn guests() -> anyhow::Result<()> {
    compile("bench/guests", "wasm", &["--crate-type", "cdylib", "--target", "wasm32-unknown-unknown"])?;
    // Static: a container has no libraries.
    compile("bench/native", "", &["-C", "target-feature=+crt-static"])
}

fn compile(sources: &str, extension: &str, options: &[&str]) -> anyhow::Result<()> {
    let built = workspace().join("target/bench-guests");
    fs::create_dir_all(&built)?;
    let sources = workspace().join(sources);
    for entry in fs::read_dir(&sources).with_context(|| format!("cannot read `{}`", sources.display()))? {
        let source = entry?.path();
        let program = built.join(source.file_name().unwrap_or_default()).with_extension(extension);
        if is_newer(&program, &source)? {
            continue;
        }
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition", "2024"]).args(options);
        rustc.args(["-C", "opt-level=3", "-C", "panic=abort", "-C", "strip=debuginfo", "-o"]);
        run(rustc.arg(program).arg(source).current_dir(workspace()))?;
    }
    Ok(())
}

fn is_newer(module: &Path, source: &Path) -> anyhow::Result<bool> {
    let Ok(made) = fs::metadata(module).and_then(|metadata| metadata.modified()) else {
        return Ok(false);
    };
    Ok(made > fs::metadata(source)?.modified()?)
}

//! `cargo xtask bench [FILTER]`: builds `bench/` in the profile for it and runs it. Knows nothing of what it measures.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::process::workspace;

/// Measures, and prints what is measured.
///
/// # Errors
/// It does not build, no group has such a name, or something costs more than it may.
pub(crate) fn bench(filter: Option<&str>) -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--locked", "--quiet", "--profile", "bench", "--package", "mentat-bench", "--"]);
    cargo.args(filter).current_dir(workspace());
    let status = cargo.stdin(Stdio::null()).status().context("cargo could not be started")?;
    if status.success() { Ok(()) } else { bail!("it ended with {status}; what is wrong stands above") }
}

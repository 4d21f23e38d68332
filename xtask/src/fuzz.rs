//! `cargo xtask fuzz <target>`: runs one of the fuzz targets of `fuzz/` under libFuzzer, with seeds that
//! are made from what the tree holds anyway. Knows where the targets are and nothing of what they do.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::process::{announced, run, workspace};
use crate::toolchains::Toolchains;

/// Runs a target for so many seconds, and prints what the fuzzer prints.
///
/// # Errors
/// There is no such target; the nightly compiler is missing; the fuzzer found something.
pub(crate) fn fuzz(target: &str, seconds: u32) -> anyhow::Result<()> {
    let source = workspace().join(format!("fuzz/targets/{target}.rs"));
    if !source.is_file() {
        bail!("there is no fuzz target `{target}`; there are {}", targets()?.join(", "));
    }
    let toolchains = Toolchains::install()?;
    if run(Command::new("cargo").args(["+nightly", "--version"])).is_err() {
        announced("installing the nightly compiler, which libFuzzer's instrumentation needs", || {
            run(Command::new("rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]))
                .map(drop)
        })?;
    }
    let corpus = workspace().join("target/fuzz/corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot create `{}`", corpus.display()))?;
    sow(&corpus)?;

    let mut fuzzer = toolchains.program("cargo-fuzz");
    // The development profile: with the checks that it has, and without the minutes of optimising across
    // crates that the other one takes.
    fuzzer.args(["run", "--dev", "--fuzz-dir", "fuzz", "--target-dir", "target/fuzz", target]).arg(&corpus);
    fuzzer.args(["--", &format!("-max_total_time={seconds}"), "-timeout=20", "-rss_limit_mb=4096"]);
    // cargo-fuzz asks whatever `cargo` is called for the instrumentation.
    fuzzer.env("RUSTUP_TOOLCHAIN", "nightly").current_dir(workspace());
    let status = fuzzer.stdin(Stdio::null()).status().context("cargo-fuzz could not be started")?;
    if !status.success() {
        bail!("the fuzzer ended with {status}; the input that did it is named above");
    }
    Ok(())
}

fn targets() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace().join("fuzz/targets"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Copies manifests and modules of the agents into the corpus, for every target alike: libFuzzer keeps
/// those that reach something.
fn sow(corpus: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(workspace().join("agents"))? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for file in ["manifest.yaml", "agent.wasm"] {
            let source = folder.join(file);
            if source.is_file() {
                fs::copy(&source, corpus.join(format!("seed-{name}-{file}")))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_target_is_answered_with_the_known_ones() {
        let error = fuzz("manifests", 1).unwrap_err().to_string();
        assert!(
            error.contains(
                "no fuzz target `manifests`; there are abi, capability, certificate, egress, manifest, module, oci, \
                 receipt, reports, sigstore, statement"
            ),
            "{error}"
        );
    }
}

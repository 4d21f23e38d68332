//! `cargo xtask codegen`: the Rust of `proto/`, and the descriptors that the server's reflection shows. What is
//! generated is committed; `--check` only compares.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use crate::process::workspace;

/// The files of the wire contract, from `proto/`.
const PROTOS: &[&str] = &["mentat/runtime/v1/runtime.proto"];
/// Where the generated files are committed.
const GENERATED: &str = "crates/proto/src/gen";
/// The descriptors' file, beside the Rust.
const DESCRIPTORS: &str = "descriptors.bin";

/// Whether to write what is generated, or to hold the committed files to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Writes the files.
    Write,
    /// Compares them.
    Check,
}

/// Generates the Rust of the wire contract.
///
/// # Errors
/// The contract does not compile; in `Check`, a committed file is not what is generated.
pub(crate) fn codegen(mode: Mode) -> anyhow::Result<()> {
    let root = workspace();
    let scratch = root.join("target/codegen");
    fs::create_dir_all(&scratch)?;
    let descriptors =
        protox::compile(PROTOS, [root.join("proto")]).context("the wire contract does not compile")?;
    fs::write(scratch.join(DESCRIPTORS), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().out_dir(&scratch).bytes(".mentat.runtime.v1").compile_fds(descriptors)?;
    let rust = "mentat.runtime.v1.rs";
    crate::process::run(
        std::process::Command::new("rustfmt").args(["--edition", "2024"]).arg(scratch.join(rust)),
    )?;
    for file in [rust, DESCRIPTORS] {
        settle(mode, &scratch.join(file), &root.join(GENERATED).join(file))?;
    }
    Ok(())
}

fn settle(mode: Mode, made: &Path, committed: &Path) -> anyhow::Result<()> {
    let content = fs::read(made)?;
    if fs::read(committed).is_ok_and(|known| known == content) {
        return Ok(());
    }
    if mode == Mode::Check {
        bail!(
            "`{}` is not what `proto/` generates; run `cargo xtask codegen` and commit it",
            committed.display()
        );
    }
    if let Some(folder) = committed.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(committed, content)?;
    println!("wrote {}", committed.display());
    Ok(())
}

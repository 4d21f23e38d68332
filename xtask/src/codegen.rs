//! `cargo xtask codegen`: the Rust and the Python of `proto/`, and the descriptors that the server's reflection shows. What
//! is generated is committed; `--check` only compares.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::process::{run, workspace};
use crate::toolchains::Toolchains;

/// The files of the wire contract, from `proto/`.
const PROTOS: &[&str] = &["mentat/runtime/v1/runtime.proto"];
/// Where the generated files are committed.
const GENERATED: &str = "crates/proto/src/gen";
/// The descriptors' file, beside the Rust.
const DESCRIPTORS: &str = "descriptors.bin";
/// Where the Python client has its stubs.
const PYTHON_GENERATED: &str = "clients/python/src/mentat_client/gen";
/// How generated Python imports the messages, and how it must where they are part of the client's package: a package
/// `mentat` on the import path would be in the way of a program that has generated its own.
const PYTHON_IMPORT: (&str, &str) = ("from mentat.runtime.v1 import ", "from mentat_client.gen import ");

/// Whether to write what is generated, or to hold the committed files to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Writes the files.
    Write,
    /// Compares them.
    Check,
}

/// The same as [`codegen`], with what it needs installed first.
///
/// # Errors
/// As that, or a toolchain could not be installed.
pub(crate) fn install_and_generate(mode: Mode) -> anyhow::Result<()> {
    codegen(mode, &Toolchains::install()?)
}

/// Generates the Rust and the Python of the wire contract.
///
/// # Errors
/// The contract does not compile; in `Check`, a committed file is not what is generated.
pub(crate) fn codegen(mode: Mode, toolchains: &Toolchains) -> anyhow::Result<()> {
    let root = workspace();
    let scratch = root.join("target/codegen");
    fs::create_dir_all(&scratch)?;
    let descriptors =
        protox::compile(PROTOS, [root.join("proto")]).context("the wire contract does not compile")?;
    fs::write(scratch.join(DESCRIPTORS), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().out_dir(&scratch).bytes(".mentat.runtime.v1").compile_fds(descriptors)?;
    let rust = "mentat.runtime.v1.rs";
    run(Command::new("rustfmt").args(["--edition", "2024"]).arg(scratch.join(rust)))?;
    for file in [rust, DESCRIPTORS] {
        settle(mode, &scratch.join(file), &root.join(GENERATED).join(file))?;
    }
    python(mode, toolchains, &scratch)
}

/// The messages and stubs of the Python client, and their types.
fn python(mode: Mode, toolchains: &Toolchains, scratch: &Path) -> anyhow::Result<()> {
    let root = workspace();
    let out = scratch.display();
    let mut protoc = toolchains.python();
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(root.join("proto"));
    for plugin in ["protoc-gen-mypy", "protoc-gen-mypy_grpc"] {
        let program = toolchains.program(plugin);
        protoc.arg(format!("--plugin={plugin}={}", program.get_program().display()));
    }
    for kind in ["python", "grpc_python", "mypy", "mypy_grpc"] {
        protoc.arg(format!("--{kind}_out={out}"));
    }
    run(protoc.args(PROTOS))?;
    for proto in PROTOS {
        let made = scratch.join(proto.trim_end_matches(".proto"));
        let Some(name) = made.file_name() else { continue };
        for end in ["_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"] {
            let file = format!("{}{end}", name.display());
            let made = made.with_file_name(&file);
            let text = fs::read_to_string(&made)?.replace(PYTHON_IMPORT.0, PYTHON_IMPORT.1);
            fs::write(&made, text)?;
            settle(mode, &made, &root.join(PYTHON_GENERATED).join(file))?;
        }
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

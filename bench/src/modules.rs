//! The modules that are executed, by name: small ones written here, the guests of `bench/guests`, which `cargo xtask bench`
//! compiles, and example agents.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use bytes::Bytes;

/// Reads its input, adds one to each byte, and writes that.
pub(crate) const TINY: &str = r#"(module
    (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
    (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "process") (result i32)
      (local $length i32) (local $at i32)
      (local.set $length (call $read (i32.const 0) (i32.const 65536)))
      (loop $again
        (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (i32.const 1)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $at) (local.get $length))))
      (call $write (i32.const 0) (local.get $length))))"#;

/// A module, and what it is executed on.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) module: Vec<u8>,
    pub(crate) input: Bytes,
}

/// The tiny module, on 1 KiB.
pub(crate) fn tiny() -> anyhow::Result<Work> {
    Ok(Work { name: "tiny", module: wat::parse_str(TINY)?, input: vec![7; 1024].into() })
}

/// A small guest of Rust with its standard library, on 1 KiB of text.
pub(crate) fn text() -> anyhow::Result<Work> {
    let input = "a few words, and more\n".repeat(48).into_bytes();
    Ok(Work {
        name: "small Rust",
        module: guest("text")?,
        input: input.get(..1024).unwrap_or(&input).to_vec().into(),
    })
}

/// An agent of Rust.
pub(crate) fn rust() -> anyhow::Result<Work> {
    let input = "a few words, and a few more\n".repeat(36);
    Ok(Work { name: "Rust", module: agent("word-statistics")?, input: input.into() })
}

/// An agent of Go.
pub(crate) fn go() -> anyhow::Result<Work> {
    let input = Bytes::from_static(b"{\"values\": [1, 2.5, 3, 99]}");
    Ok(Work { name: "Go", module: agent("metrics")?, input })
}

/// An agent of Python, which was initialised when it was built.
pub(crate) fn python() -> anyhow::Result<Work> {
    let input = Bytes::from_static(b"2026-11-02T08:00:01Z INFO listening on port 8080\n");
    Ok(Work { name: "Python", module: agent("log-summary")?, input })
}

/// CPython as a command, which prints a number.
pub(crate) fn cpython() -> anyhow::Result<Work> {
    let libraries = root().join(".tools/python/lib");
    let mut modules = Vec::new();
    for version in std::fs::read_dir(&libraries).with_context(|| format!("no `{}`", libraries.display()))? {
        let packages = version?.path().join("site-packages");
        modules.push(packages.join("wasm_runtime/python-3.11.3.wasm"));
    }
    let found = modules.into_iter().find(|module| module.is_file());
    let path = found.context("there is no CPython; `cargo xtask agents` installs it")?;
    Ok(Work { name: "CPython", module: std::fs::read(path)?, input: Bytes::from_static(b"print(1)") })
}

/// The programs of `bench/guests/kernels.rs`.
pub(crate) fn kernel(program: &'static str) -> anyhow::Result<Work> {
    Ok(Work { name: program, module: guest("kernels")?, input: Bytes::from_static(program.as_bytes()) })
}

/// What one process asks another to execute.
pub(crate) fn named(name: &str) -> anyhow::Result<Work> {
    let all = [tiny, text, rust, go];
    let works = all.map(|work| work());
    let mut named = works.into_iter().filter(|work| work.as_ref().is_ok_and(|work| work.name == name));
    named.next().ok_or_else(|| anyhow!("no module is called `{name}`"))?
}

/// An example agent's module.
fn agent(name: &str) -> anyhow::Result<Vec<u8>> {
    let path = root().join("agents").join(name).join("agent.wasm");
    std::fs::read(&path).with_context(|| format!("no `{}`; `cargo xtask agents` builds it", path.display()))
}

/// A program of `bench/native`.
pub(crate) fn native(name: &str) -> PathBuf {
    root().join("target/bench-guests").join(name)
}

/// A guest of `bench/guests`.
fn guest(name: &str) -> anyhow::Result<Vec<u8>> {
    let path = root().join("target/bench-guests").join(name).with_extension("wasm");
    std::fs::read(&path).with_context(|| format!("no `{}`; `cargo xtask bench` builds it", path.display()))
}

fn root() -> &'static Path {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().unwrap_or(bench)
}

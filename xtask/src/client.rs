//! Tests the orchestrator's client in Python, `clients/python`, as its users get it: installed by pip into a virtual
//! environment in which nothing was prepared, with what it depends on from PyPI, and run against a started server.
//!
//! Invariant: what the tests need is installed after the package was imported without it.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::process::{announced, run, workspace};
use crate::test::show;

/// The package, from the root of the workspace.
const PACKAGE: &str = "clients/python";
/// The example that is a program of its own.
const EXAMPLE: &str = "examples/orchestrator";
/// What the package is checked and tested with.
const TEST_PACKAGES: &[&str] = &[
    "cryptography==50.0.2",
    "mypy==2.4.1",
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "ruff==0.17.6",
    "types-PyYAML==6.0.12.20261122",
    "types-grpcio==1.85.0.20261028",
    "types-protobuf==7.35.1.20260906",
    "wasmtime",
];

/// Installs the package, checks its types and style, and runs its tests against `program`, a `mentat`. The example agents
/// must have been built.
///
/// # Errors
/// The first step that fails, with what its program wrote.
pub(crate) fn test(program: &Path) -> anyhow::Result<()> {
    let package = workspace().join(PACKAGE);
    let environment = workspace().join("target/client-python");
    let python = || Command::new(environment.join("bin/python"));
    let pip = |arguments: &[&str]| {
        let mut pip = python();
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(arguments);
        run(&mut pip).map(drop)
    };
    announced("installing the Python client into a new virtual environment", || {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        pip(&[&package.to_string_lossy()])?;
        run(python().args(["-c", "import mentat_client"])).context("the package alone cannot be imported")
    })?;
    announced("installing what the Python client is tested with", || pip(TEST_PACKAGES))?;

    let step = |arguments: &[&str]| {
        let mut step = python();
        step.arg("-m").args(arguments).current_dir(&package).env("MENTAT_PROGRAM", program);
        show(&mut step).with_context(|| format!("`python -m {}`", arguments.join(" ")))
    };
    let example = workspace().join(EXAMPLE);
    let example = example.to_string_lossy();
    step(&["ruff", "check", ".", &example])?;
    step(&["ruff", "format", "--check", ".", &example])?;
    step(&["mypy", "src", "tests", &example])?;
    step(&["pytest", "--quiet"])
}

//! A fresh sandbox beside a fresh container: the same work, once as a program in a container that runc starts, once as a
//! module by the library.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use mentat_manifest::Metering;
use serde_json::{Value, json};

use crate::figures::{Row, rows};
use crate::measure::{Plan, Subject};
use crate::modules;
use crate::workshop::{Clocks, Workshop};

/// Where the program is in its container.
const PROGRAM: &str = "/add-one";

#[allow(clippy::print_stderr, reason = "a developer's tool talks to the terminal")]
pub(crate) fn container(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (work, bundle) = (modules::tiny()?, tempfile::tempdir()?);
    if !prepare(bundle.path())? {
        eprintln!(
            "containers are not measured: there is no `runc` (Debian has it as a package of this name)"
        );
        return Ok(Vec::new());
    }
    let expected: Vec<u8> = work.input.iter().map(|byte| byte.wrapping_add(1)).collect();
    let mut started = 0_u32;
    let workshop = Workshop::open(Clocks::Running)?;
    let recorder = workshop.recorder(work.name, Clocks::Running)?;
    let place = workshop.place(&work, Metering::Fuel, "", Some(recorder.clone()))?;
    let measured = plan.slow().measure(vec![
        Subject::new("the work of the tiny module in a fresh container, by runc", |count| {
            for _ in 0..count {
                started += 1;
                let output = run(
                    bundle.path(),
                    &format!("mentat-bench-{}-{started}", std::process::id()),
                    &work.input,
                )?;
                ensure!(output == expected, "the container answered something wrong");
            }
            Ok(())
        }),
        Subject::new("the same in a fresh sandbox, decided on and recorded", |count| place.execute(count)),
    ])?;
    recorder.close();
    Ok(rows(&measured))
}

/// Makes a bundle with the program in it; answers whether there is a runc.
fn prepare(bundle: &Path) -> anyhow::Result<bool> {
    let made = Command::new("runc").args(["spec", "--bundle"]).arg(bundle).status();
    match made {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        made => ensure!(made?.success(), "`runc spec` failed"),
    }
    let root = bundle.join("rootfs");
    std::fs::create_dir(&root)?;
    let program = modules::native("add-one");
    std::fs::copy(&program, root.join(PROGRAM.trim_start_matches('/')))
        .with_context(|| format!("no `{}`; `cargo xtask bench` builds it", program.display()))?;
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let process = config.pointer_mut("/process").context("a specification without a process")?;
    process["terminal"] = json!(false);
    process["args"] = json!([PROGRAM]);
    std::fs::write(&path, serde_json::to_vec(&config)?)?;
    Ok(true)
}

fn run(bundle: &Path, name: &str, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut runc = Command::new("runc");
    runc.args(["run", "--bundle"]).arg(bundle).arg(name);
    let mut child = runc.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // Gone again, so that the program sees its end.
    child.stdin.take().context("runc has no input")?.write_all(input)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "runc ended with {}", output.status);
    Ok(output.stdout)
}

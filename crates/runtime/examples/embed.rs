//! Embeds the runtime: loads a module, executes it on an input, writes its output to stdout and its cost to
//! stderr.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use mentat_manifest::{LimitsRequest, Metering};
use mentat_runtime::model::Invocation;
use mentat_runtime::security::policy::{Rules, UserPowers};
use mentat_runtime::{Compiler, Runtime, RuntimeConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(input)) = (arguments.next(), arguments.next()) else {
        return Err("give the path of a module, and its input".into());
    };

    // Once in a process: engines, places for executions, compiled code.
    let runtime = Arc::new(Runtime::new(RuntimeConfig::default(), Compiler::InProcess)?);
    let rules = Rules::default();

    // Once for a module: read, check, compile, link.
    let loaded = runtime.load(std::fs::read(path)?.into(), Metering::Fuel).await?;

    // Once for an execution: powers and budget, then a sandbox of its own.
    let limits = LimitsRequest { timeout: Some(Duration::from_secs(5)), ..LimitsRequest::default() };
    let grant = rules.decide_for_user(None, &limits, UserPowers::default())?;
    loaded.module.fits(grant.limits().memory_bytes)?;
    let outcome = runtime.execute(&loaded.module, &grant, Invocation::new(input)).await;

    let usage = outcome.usage;
    let fuel = usage.fuel.map_or(0, |fuel| fuel.0);
    writeln!(std::io::stderr(), "{fuel} fuel, {} of memory, {:?}", usage.peak_memory, usage.total())?;
    std::io::stdout().write_all(&outcome.result?.output)?;
    Ok(())
}

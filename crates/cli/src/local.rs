//! A runtime in this process, for one execution of one user: quick to make, without a pool.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mentat_manifest::{ByteCount, Metering};
use mentat_runtime::error::Error;
use mentat_runtime::security::policy::Rules;
use mentat_runtime::{
    Allocator, CompileConfig, Compiler, EngineConfig, MediaConfig, MediaPlace, Runtime, RuntimeConfig, Tiers,
};

use crate::environment;
use crate::output::{self, Failure};
use crate::source::AgentSource;

/// More patience than a service has for strangers: the user waits for their own module, sees that it is being compiled,
/// and can end that. A C++ compiler as a module takes minutes on a small machine.
const COMPILE_TIMEOUT_MS: u64 = 600_000;
const COMPILE_CPU_SECONDS: u64 = 1_200;

/// A runtime that executes, and keeps what it compiles in `cache`, or in the user's cache directory; its media lie in a
/// directory of the user's, if anywhere.
///
/// # Errors
/// When the engine cannot be made, or the directory that was named cannot be used.
pub(crate) fn executing(
    memory: ByteCount,
    cache: Option<&Path>,
    media: Option<&Path>,
) -> Result<Arc<Runtime>, Failure> {
    let program = environment::this_program()
        .map_err(|error| Failure::system("finding this program, which compiles modules", &error))?;
    let make = |artifacts: Option<PathBuf>| {
        let place = media.map_or(MediaPlace::Nowhere, |directory| MediaPlace::Own(directory.to_owned()));
        let media = MediaConfig { place, ..MediaConfig::default() };
        Runtime::new(RuntimeConfig { artifacts, media, ..config(memory) }, Compiler::Child(program.clone()))
    };
    if let Some(directory) = cache {
        return Ok(Arc::new(make(Some(directory.to_owned()))?));
    }
    match make(environment::default_cache_dir()) {
        // A home that cannot be written costs a compile each time, not the execution.
        Err(Error::Internal { .. }) => {
            output::write_notice(
                "the cache directory cannot be used, so the module is compiled anew each time; name another \
                 with --cache-dir",
            );
            Ok(Arc::new(make(None)?))
        }
        made => Ok(Arc::new(made?)),
    }
}

/// Everything that would keep the agent's module from being loaded under its manifest's budget.
///
/// # Errors
/// `INVALID_MODULE` with each problem; `INVALID_REQUEST` when the budget is over the ceiling.
pub(crate) fn check(agent: &AgentSource) -> Result<(), Failure> {
    let budget = Rules::default().budget(agent.manifest())?;
    check_module(agent, budget.memory_bytes, budget.metering)
}

fn check_module(agent: &AgentSource, memory: ByteCount, metering: Metering) -> Result<(), Failure> {
    // Nothing is compiled here, so it does not matter where.
    let runtime = Runtime::new(config(memory), Compiler::InProcess)?;
    let checked = runtime.check(&agent.module, metering);
    checked.map(drop).map_err(|error| Failure::from(error).in_file(&agent.module_path))
}

/// The agent's memory is the engine's limit, so that one check covers both. Without a pool, since it
/// would reserve address space for sizes that this one module may not need, and refuse a component
/// with more parts than one execution's share.
fn config(memory: ByteCount) -> RuntimeConfig {
    let engine = EngineConfig {
        allocator: Allocator::OnDemand,
        max_executions: 1,
        max_memory: memory,
        ..EngineConfig::default()
    };
    let compile = CompileConfig {
        timeout_ms: COMPILE_TIMEOUT_MS,
        cpu_seconds: COMPILE_CPU_SECONDS,
        // This process ends with the execution, and would leave nothing for the next one.
        tiers: Tiers::Optimized,
        ..CompileConfig::default()
    };
    RuntimeConfig { engine, compile, ..RuntimeConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ManifestFile;

    fn check_with_memory(megabytes: u32) -> Result<(), Failure> {
        let folder = tempfile::tempdir().unwrap();
        let manifest =
            format!("id: a\nversion: 1.0.0\nruntime: wasm\nwasm: {{ memory: {{ maximum: {megabytes} }} }}\n");
        let module =
            r#"(module (memory (export "memory") 32) (func (export "process") (result i32) i32.const 0))"#;
        std::fs::write(folder.path().join("manifest.yaml"), manifest).unwrap();
        std::fs::write(folder.path().join("agent.wasm"), wat::parse_str(module).unwrap()).unwrap();
        check(&AgentSource::of(ManifestFile::read(folder.path().join("manifest.yaml"))?)?)
    }

    #[test]
    fn a_module_must_fit_its_own_manifests_memory() {
        check_with_memory(2).unwrap();
        let lines = check_with_memory(1).unwrap_err().lines();
        assert!(lines[0].contains("starts with 2MB and the limit is 1MB"), "{lines:?}");
    }
}

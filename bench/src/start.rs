//! What the first answer of a module costs: one whose code is on disk, and one that nobody has seen before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use mentat_manifest::{LimitsRequest, Metering, ModuleDigest};
use mentat_runtime::model::Invocation;
use mentat_runtime::security::policy::{Grant, Rules, UserPowers};
use mentat_runtime::{CompileConfig, Compiler, Runtime, RuntimeConfig};

use crate::figures::{Row, Samples, Target, Unit, nanoseconds, rows};
use crate::measure::Plan;
use crate::modules::{self, Work};
use crate::raw::{RawEngine, Settings};
use crate::server;
use crate::workshop::{Clocks, PLACES, config, threads};

/// What an answer of Python may take.
const PYTHON: Duration = Duration::from_millis(10);

/// When a runtime that is new had the module ready, and when its answer, in nanoseconds.
struct First {
    loaded: f64,
    answered: f64,
}

/// What a module's code comes from.
#[derive(Clone, Copy)]
enum Source {
    Bytes,
    Disk,
}

pub(crate) fn start(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let work = modules::go()?;
    let mut all = rows(&from_disk(plan, &work)?);
    all.extend(rows(&never_seen(&plan.slow(), &work)?));
    Ok(all)
}

/// From code on disk to the first answer, in a runtime that has executed nothing.
fn from_disk(plan: &Plan, work: &Work) -> anyhow::Result<Vec<Samples>> {
    let (threads, grant, folder) = (threads()?, grant()?, tempfile::tempdir()?);
    let image = folder.path().join("raw.cwasm");
    std::fs::write(&image, RawEngine::new(Settings::ours(PLACES))?.compile(&work.module)?)?;
    let kept = RuntimeConfig { artifacts: Some(folder.path().join("kept")), ..config(Clocks::Running) };
    // Compiles it, and leaves it on disk.
    first(&threads, &kept, Compiler::InProcess, Source::Bytes, work, &grant)?;
    let again = || first(&threads, &kept, Compiler::InProcess, Source::Disk, work, &grant);
    let mut alone = Samples::new("Go, code on disk: wasmtime alone", Unit::Nanoseconds);
    let mut loaded = Samples::new("Go, code on disk: by the library, until loaded", Unit::Nanoseconds);
    let mut ours = Samples::new("Go, code on disk: by the library, first answer", Unit::Nanoseconds)
        .aiming_at(Target::RatioAtMost(1.5));
    for _ in 0..plan.rounds {
        let engine = RawEngine::new(Settings::ours(PLACES))?;
        let started = Instant::now();
        threads.block_on(engine.map(&image)?.output(work.input.clone()))?;
        alone.push(nanoseconds(started.elapsed()));
        let first = again()?;
        loaded.push(first.loaded);
        ours.push(first.answered);
    }
    Ok(vec![alone, loaded, ours])
}

/// Python from code on disk to the first answer: CPython, which starts in each execution, and an agent that began when it
/// was built.
pub(crate) fn python(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (threads, grant, folder) = (threads()?, grant()?, tempfile::tempdir()?);
    let kept = RuntimeConfig { artifacts: Some(folder.path().to_owned()), ..config(Clocks::Running) };
    let works = [modules::cpython()?, modules::python()?];
    for work in &works {
        first(&threads, &kept, Compiler::InProcess, Source::Bytes, work, &grant)?;
    }
    let [command, component] = &works;
    let again = |work| first(&threads, &kept, Compiler::InProcess, Source::Disk, work, &grant);
    let mut alone =
        Samples::new("Python, code on disk: CPython as a command, first answer", Unit::Nanoseconds);
    let mut loaded = Samples::new("Python, code on disk: begun when built, until loaded", Unit::Nanoseconds);
    let mut ours = Samples::new("Python, code on disk: begun when built, first answer", Unit::Nanoseconds)
        .aiming_at(Target::AtMost(nanoseconds(PYTHON)));
    for _ in 0..plan.slow().rounds {
        alone.push(again(command)?.answered);
        let first = again(component)?;
        loaded.push(first.loaded);
        ours.push(first.answered);
    }
    Ok(rows(&[alone, loaded, ours]))
}

/// From bytes that nobody has seen to the first answer; compiled in a process of its own, as the service does.
fn never_seen(plan: &Plan, work: &Work) -> anyhow::Result<Vec<Samples>> {
    let (threads, grant) = (threads()?, grant()?);
    let engine = RawEngine::new(Settings::ours(PLACES))?;
    let compiler = Compiler::Child(server::program()?);
    let mut alone = Samples::new("Go, never seen: Cranelift alone, in this process", Unit::Nanoseconds);
    let mut ours = Samples::new("Go, never seen: by the library, first answer", Unit::Nanoseconds)
        .aiming_at(Target::RatioAtMost(0.3));
    for _ in 0..plan.rounds {
        let started = Instant::now();
        ensure!(!engine.compile(&work.module)?.is_empty(), "nothing was compiled");
        alone.push(nanoseconds(started.elapsed()));
        let config = RuntimeConfig { compile: CompileConfig::default(), ..config(Clocks::Running) };
        let first = first(&threads, &config, compiler.clone(), Source::Bytes, work, &grant)?;
        ours.push(first.answered);
    }
    Ok(vec![alone, ours])
}

/// Makes a runtime, and has it load and execute; the first is not measured.
fn first(
    threads: &tokio::runtime::Runtime,
    config: &RuntimeConfig,
    compiler: Compiler,
    source: Source,
    work: &Work,
    grant: &Grant,
) -> anyhow::Result<First> {
    let runtime = Arc::new(Runtime::new(config.clone(), compiler)?);
    let module = Bytes::from(work.module.clone());
    let digest = ModuleDigest::of(&module);
    let started = Instant::now();
    threads.block_on(async {
        let loaded = match source {
            Source::Bytes => Some(runtime.load(module, Metering::Fuel).await?),
            // As a service does that has been started again.
            Source::Disk => runtime.load_kept(digest, Metering::Fuel).await?,
        };
        let module = loaded.context("no code on disk")?.module;
        let loaded = nanoseconds(started.elapsed());
        let outcome = runtime.execute(&module, grant, Invocation::new(work.input.clone())).await;
        let answered = nanoseconds(started.elapsed());
        let answer = outcome.result?;
        ensure!(answer.exit_code == 0 && !answer.output.is_empty(), "not a good answer: {answer:?}");
        Ok(First { loaded, answered })
    })
}

/// The powers of whoever runs it: none.
fn grant() -> anyhow::Result<Grant> {
    Ok(Rules::default().decide_for_user(None, &LimitsRequest::default(), UserPowers::default())?)
}

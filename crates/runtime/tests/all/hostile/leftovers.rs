//! What one execution leaves behind must not be there for the next: each guest of `tests/hostile/leftovers` after each of
//! the others, in a pool of two places, for one tenant after another; and what no file can say by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mentat_manifest::Metering;
use mentat_runtime::model::Invocation;
use mentat_runtime::{Compiler, EngineConfig, Loaded, Runtime, RuntimeConfig};

use super::{Setting, cases, folder, guest, programs};
use crate::harness::runtime;
use crate::headers::Headers;
use crate::world::World;

/// A runtime in which each execution takes a place that another one had just before.
fn small_runtime(scratch: &Path) -> Arc<Runtime> {
    let engine = EngineConfig { max_executions: 2, ..EngineConfig::default() };
    let config = RuntimeConfig { engine, scratch: Some(scratch.to_owned()), ..RuntimeConfig::default() };
    Arc::new(Runtime::new(config, Compiler::InProcess).unwrap())
}

async fn run(runtime: &Runtime, loaded: &Loaded, setting: &Setting, tenant: &str, input: &[u8]) -> String {
    let invocation = Invocation::new(input.to_vec());
    let outcome = runtime.execute(&loaded.module, &setting.world.grant(tenant), invocation).await;
    String::from_utf8(outcome.result.unwrap().output.to_vec()).unwrap()
}

/// Waits until no scratch directory is left.
async fn wait_until_empty(scratch: &Path) {
    let since = Instant::now();
    while scratch.read_dir().unwrap().count() > 0 {
        assert!(since.elapsed() < Duration::from_secs(20), "scratch directories stay behind");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_guest_finds_its_place_pristine_after_each_other() {
    let scratch = tempfile::tempdir().unwrap();
    let runtime = small_runtime(scratch.path());
    let mut guests = Vec::new();
    for file in cases("leftovers") {
        let text = std::fs::read_to_string(&file).unwrap();
        let headers = Headers::parse(&text);
        let (module, input) = guest(&file, &text, &headers).unwrap();
        let loaded = runtime.load(module.into(), Metering::Fuel).await.unwrap();
        guests.push((file.file_stem().unwrap().to_owned(), Setting::of(&headers), headers, loaded, input));
    }
    let mut complaints = Vec::new();
    for first in &guests {
        for second in &guests {
            for ((name, setting, headers, loaded, input), tenant) in [(first, "acme"), (second, "other")] {
                let (grant, started) = (setting.world.grant(tenant), Instant::now());
                let outcome = runtime.execute(&loaded.module, &grant, Invocation::new(input.clone())).await;
                if let Some(complaint) = headers.complaint(&outcome, started.elapsed()) {
                    complaints.push(format!("{name:?} beside {:?}: {complaint}", first.0));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    wait_until_empty(scratch.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scratch_directory_deeper_than_any_stack_goes_with_its_execution() {
    let scratch = tempfile::tempdir().unwrap();
    let runtime = small_runtime(scratch.path());
    let file = folder().join("exhaustion/a-tree-deeper-than-any-stack.probe");
    let text = std::fs::read_to_string(&file).unwrap();
    let headers = Headers::parse(&text);
    let (module, input) = guest(&file, &text, &headers).unwrap();
    let loaded = runtime.load(module.into(), Metering::Fuel).await.unwrap();
    run(&runtime, &loaded, &Setting::of(&headers), "default", &input).await;
    wait_until_empty(scratch.path()).await;
}

#[tokio::test]
async fn a_handle_of_another_execution_is_nothing() {
    let mut world = World::new(&["env:KEY"]);
    world.offers.env.insert("KEY".into(), "value".into());
    let setting = Setting { world, left: Vec::new(), gone: Vec::new() };
    let probe = runtime().load(programs::compiled("probe.rs").into(), Metering::Fuel).await.unwrap();
    let mut handles = Vec::new();
    for _ in 0..20 {
        let script = "request env:KEY as key\nprint key\nuse key {} => ok value";
        let handle = run(runtime(), &probe, &setting, "acme", script.as_bytes()).await;
        let handle = handle.trim().to_owned();
        let script = format!(
            "use {handle} {{}} => bad-handle\nrelease {handle} => bad-handle\nrequest env:KEY as key\n\
             use {handle} {{}} => bad-handle"
        );
        for tenant in ["acme", "other"] {
            run(runtime(), &probe, &setting, tenant, script.as_bytes()).await;
        }
        handles.push(handle);
    }
    handles.sort();
    handles.dedup();
    assert!(handles.len() > 18, "handles repeat: {handles:?}");
}

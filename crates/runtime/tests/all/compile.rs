//! Compiled code: shared, kept, authenticated.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mentat_manifest::Metering;
use mentat_runtime::{CodeOrigin, Compiler, EngineConfig, Runtime, RuntimeConfig};

fn runtime(artifacts: &Path) -> Arc<Runtime> {
    let config = RuntimeConfig {
        engine: EngineConfig { max_executions: 4, ..EngineConfig::default() },
        artifacts: Some(artifacts.to_owned()),
        ..RuntimeConfig::default()
    };
    Arc::new(Runtime::new(config, Compiler::InProcess).unwrap())
}

fn module(number: u32) -> Bytes {
    let text = format!(
        r#"(module (memory (export "memory") 1) (func (export "process") (result i32) (i32.const {number})))"#
    );
    wat::parse_str(text).unwrap().into()
}

async fn origin(runtime: &Arc<Runtime>, module: Bytes) -> CodeOrigin {
    runtime.load(module, Metering::Fuel).await.unwrap().origin
}

fn artifact(directory: &Path) -> std::path::PathBuf {
    let mut found = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.extension().is_some_and(|extension| extension == "cwasm")).unwrap()
}

#[tokio::test]
async fn a_module_is_compiled_once_for_many_who_ask_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime(directory.path());
    let loads: Vec<_> = (0..50)
        .map(|_| {
            let runtime = Arc::clone(&runtime);
            tokio::spawn(async move { runtime.load(module(1), Metering::Fuel).await.unwrap().module })
        })
        .collect();
    let mut modules = Vec::new();
    for load in loads {
        modules.push(load.await.unwrap());
    }
    assert!(modules.iter().all(|module| Arc::ptr_eq(module, &modules[0])));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "one artifact, its tag and the key");
}

#[tokio::test]
async fn code_is_kept_in_memory_while_used_and_on_disk_after() {
    let directory = tempfile::tempdir().unwrap();
    let first = runtime(directory.path());
    let held = first.load(module(1), Metering::Fuel).await.unwrap();
    assert!(matches!(held.origin, CodeOrigin::Compiled(_)));
    assert_eq!(origin(&first, module(1)).await, CodeOrigin::Memory);
    drop(held);
    assert_eq!(origin(&first, module(1)).await, CodeOrigin::Disk);
    assert_eq!(origin(&runtime(directory.path()), module(1)).await, CodeOrigin::Disk);
}

#[tokio::test]
async fn a_changed_byte_in_an_artifact_is_a_miss_and_never_run() {
    let directory = tempfile::tempdir().unwrap();
    origin(&runtime(directory.path()), module(1)).await;
    let path = artifact(directory.path());
    let pristine = fs::read(&path).unwrap();
    for place in [0, pristine.len() / 2, pristine.len() - 1] {
        let mut changed = pristine.clone();
        changed[place] ^= 1;
        fs::write(&path, changed).unwrap();
        let again = origin(&runtime(directory.path()), module(1)).await;
        assert!(matches!(again, CodeOrigin::Compiled(_)), "byte {place}");
    }
    fs::write(&path, &pristine[..pristine.len() / 2]).unwrap();
    assert!(matches!(origin(&runtime(directory.path()), module(1)).await, CodeOrigin::Compiled(_)));
}

#[tokio::test]
async fn one_modules_code_cannot_stand_in_for_anothers() {
    let directory = tempfile::tempdir().unwrap();
    origin(&runtime(directory.path()), module(1)).await;
    let first = artifact(directory.path());
    let other = tempfile::tempdir().unwrap();
    fs::copy(directory.path().join("key"), other.path().join("key")).unwrap();
    origin(&runtime(other.path()), module(2)).await;
    let second = artifact(other.path());
    fs::copy(&first, &second).unwrap();
    fs::copy(first.with_extension("hmac"), second.with_extension("hmac")).unwrap();
    assert!(matches!(origin(&runtime(other.path()), module(2)).await, CodeOrigin::Compiled(_)));
}

#[tokio::test]
async fn when_the_one_who_compiles_goes_away_another_takes_over() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime(directory.path());
    let first = tokio::spawn({
        let runtime = Arc::clone(&runtime);
        async move { runtime.load(module(1), Metering::Fuel).await.map(drop) }
    });
    tokio::task::yield_now().await;
    first.abort();
    runtime.load(module(1), Metering::Fuel).await.unwrap();
}

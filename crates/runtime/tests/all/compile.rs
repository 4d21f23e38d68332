//! Compiled code: shared, kept, authenticated.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mentat_manifest::{ByteCount, Fuel, LimitsRequest, Metering};
use mentat_runtime::model::Invocation;
use mentat_runtime::security::policy::{Rules, UserPowers};
use mentat_runtime::{
    CodeOrigin, CompileConfig, Compiler, EngineConfig, Module, Runtime, RuntimeConfig, Tier, Tiers,
};

fn runtime(artifacts: &Path) -> Arc<Runtime> {
    runtime_with(artifacts, CompileConfig { tiers: Tiers::Optimized, ..CompileConfig::default() })
}

fn runtime_with(artifacts: &Path, compile: CompileConfig) -> Arc<Runtime> {
    let config = RuntimeConfig {
        engine: EngineConfig { max_executions: 4, ..EngineConfig::default() },
        artifacts: Some(artifacts.to_owned()),
        compile,
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
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "one artifact and the key");
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
    // Its data is larger than what has one tag.
    let data = "some data ".repeat(20_000);
    let text = format!(
        r#"(module (memory (export "memory") 4) (data (i32.const 0) "{data}")
            (func (export "process") (result i32) (i32.const 1)))"#
    );
    let module = Bytes::from(wat::parse_str(text).unwrap());
    origin(&runtime(directory.path()), module.clone()).await;
    let path = artifact(directory.path());
    let pristine = fs::read(&path).unwrap();
    let end = pristine.len();
    // Behind the code and what is said of it are where the code and the data begin and end.
    let number = |at: usize| {
        let bytes: [u8; 8] = pristine[end - 112 + at * 8..][..8].try_into().unwrap();
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let (code, data) = (number(0), number(2));
    assert!(code < number(1) && number(1) <= data && data + 150_000 < number(3));
    // In the file's beginning, in the code, in two parts of the data, in what the module says of itself; then in all that
    // stands behind.
    let places = [0, code, data, data + 150_000, end - 120].into_iter();
    for place in places.chain((end - 112..end).step_by(8)) {
        let mut changed = pristine.clone();
        changed[place] ^= 1;
        fs::write(&path, changed).unwrap();
        let again = origin(&runtime(directory.path()), module.clone()).await;
        assert!(matches!(again, CodeOrigin::Compiled(_)), "byte {place} of {end}");
    }
    for length in [0, 50, 111, 112, end / 2, end - 1] {
        fs::write(&path, &pristine[..length]).unwrap();
        let again = origin(&runtime(directory.path()), module.clone()).await;
        assert!(matches!(again, CodeOrigin::Compiled(_)), "{length} bytes of {end}");
    }
    fs::write(&path, &pristine).unwrap();
    assert_eq!(origin(&runtime(directory.path()), module).await, CodeOrigin::Disk);
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

async fn executed(runtime: &Runtime, module: &Module) -> (i32, Option<Fuel>) {
    let grant =
        Rules::default().decide_for_user(None, &LimitsRequest::default(), UserPowers::default()).unwrap();
    let outcome = runtime.execute(module, &grant, Invocation::new("")).await;
    (outcome.result.unwrap().exit_code, outcome.usage.fuel)
}

/// Fills and copies, which baseline code is charged for by the host.
const FILLS: &str = r#"(module (memory (export "memory") 2)
    (func (export "process") (result i32)
      (memory.fill (i32.const 0) (i32.const 7) (i32.const 70000))
      (memory.copy (i32.const 70000) (i32.const 10) (i32.const 100))
      (memory.fill (i32.const 0) (i32.const 7) (i32.const 0))
      (i32.load8_u (i32.const 70099))))"#;

#[tokio::test]
async fn a_new_module_runs_on_baseline_code_until_there_is_better_and_costs_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let both = runtime_with(directory.path(), CompileConfig::default());
    let bytes = Bytes::from(wat::parse_str(FILLS).unwrap());
    let loaded = both.load(bytes.clone(), Metering::Fuel).await.unwrap();
    let first = executed(&both, &loaded.module).await;
    assert_eq!(first.0, 7);
    assert!(first.1.unwrap() > Fuel(70_100));
    for _ in 0..1000 {
        if loaded.module.tier() == Tier::Optimized {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(loaded.module.tier(), Tier::Optimized);
    assert_eq!(executed(&both, &loaded.module).await, first);
    // That is what is kept.
    let again = runtime(directory.path()).load(bytes, Metering::Fuel).await.unwrap();
    assert_eq!((again.origin, again.module.tier()), (CodeOrigin::Disk, Tier::Optimized));
}

#[tokio::test]
async fn where_there_can_be_no_baseline_code_optimised_code_is_made_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let both = runtime_with(directory.path(), CompileConfig::default());
    let tail_call = r#"(module (memory (export "memory") 1) (func $one (result i32) (i32.const 1))
        (func (export "process") (result i32) (return_call $one)))"#;
    let bytes = Bytes::from(wat::parse_str(tail_call).unwrap());
    let loaded = both.load(bytes, Metering::Fuel).await.unwrap();
    assert_eq!(loaded.module.tier(), Tier::Optimized);
    assert_eq!(executed(&both, &loaded.module).await.0, 1);
}

#[tokio::test]
async fn no_module_can_import_what_baseline_code_is_charged_by() {
    let directory = tempfile::tempdir().unwrap();
    let baseline = CompileConfig { tiers: Tiers::Baseline, ..CompileConfig::default() };
    let baseline = runtime_with(directory.path(), baseline);
    let charges = r#"(module (import "mentat:baseline" "charge" (func (param i32) (result i32)))
        (memory (export "memory") 1) (func (export "process") (result i32) (i32.const 1)))"#;
    let refused = baseline.load(wat::parse_str(charges).unwrap().into(), Metering::Fuel).await.unwrap_err();
    assert!(refused.to_string().contains("import `mentat:baseline.charge` is unknown"), "{refused}");
}

#[tokio::test]
async fn a_module_whose_code_is_kept_needs_no_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = module(5);
    let digest = mentat_manifest::ModuleDigest::of(&bytes);
    let first = runtime(directory.path());
    assert!(first.load_kept(digest, Metering::Fuel).await.unwrap().is_none());
    let loaded = first.load(bytes, Metering::Fuel).await.unwrap();
    let found = first.load_kept(digest, Metering::Fuel).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&found.module, &loaded.module) && found.origin == CodeOrigin::Memory);
    let second = runtime(directory.path());
    let found = second.load_kept(digest, Metering::Fuel).await.unwrap().unwrap();
    assert_eq!((found.origin, found.module.info()), (CodeOrigin::Disk, loaded.module.info()));
    assert_eq!(executed(&second, &found.module).await.0, 5);
    assert!(second.load_kept(digest, Metering::Epoch).await.unwrap().is_none());
}

#[tokio::test]
async fn what_was_used_least_recently_leaves_the_disk_when_there_is_too_much() {
    let directory = tempfile::tempdir().unwrap();
    origin(&runtime(directory.path()), module(1)).await;
    let first = artifact(directory.path());
    let size = fs::metadata(&first).unwrap().len();
    let cache = ByteCount(size * 5 / 2);
    let small = CompileConfig { tiers: Tiers::Optimized, cache, ..CompileConfig::default() };
    let small = runtime_with(directory.path(), small);
    origin(&small, module(2)).await;
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let second = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    for path in second.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")) {
        fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    // The first is used again, and so the second goes.
    assert_eq!(origin(&small, module(1)).await, CodeOrigin::Disk);
    origin(&small, module(3)).await;
    assert_eq!(small.evictions(), 1);
    assert_eq!(origin(&small, module(1)).await, CodeOrigin::Disk);
    assert!(matches!(origin(&small, module(2)).await, CodeOrigin::Compiled(_)));
}

#[tokio::test]
async fn baseline_code_without_loops_yields_among_operations_on_many_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let baseline = CompileConfig { tiers: Tiers::Baseline, ..CompileConfig::default() };
    let baseline = runtime_with(directory.path(), baseline);
    // Each is a little less than what makes one operation yield by itself.
    let fills = "(memory.fill (i32.const 0) (i32.const 7) (i32.const 1048575))".repeat(20_000);
    let text = format!(
        r#"(module (memory (export "memory") 17) (func (export "process") (result i32) {fills} (i32.const 0)))"#
    );
    let bytes = Bytes::from(wat::parse_str(text).unwrap());
    let module = baseline.load(bytes, Metering::Epoch).await.unwrap().module;
    assert_eq!(module.tier(), Tier::Baseline);
    let timeout = Some(std::time::Duration::from_millis(100));
    let limits = LimitsRequest { timeout, metering: Some(Metering::Epoch), ..LimitsRequest::default() };
    let grant = Rules::default().decide_for_user(None, &limits, UserPowers::default()).unwrap();
    let ended = baseline.execute(&module, &grant, Invocation::new("")).await.result.unwrap_err();
    assert_eq!(ended.reason(), mentat_runtime::error::Reason::Timeout, "{ended}");
}

#[tokio::test]
async fn a_module_whose_instances_are_too_large_for_the_pool_is_refused_on_either_code() {
    let directory = tempfile::tempdir().unwrap();
    let both = runtime_with(directory.path(), CompileConfig::default());
    let globals = "(global (mut i64) (i64.const 1))".repeat(300_000);
    let text = format!(
        r#"(module {globals} (memory (export "memory") 1) (func (export "process") (result i32) (i32.const 0)))"#
    );
    let refused = both.load(wat::parse_str(text).unwrap().into(), Metering::Fuel).await.unwrap_err();
    assert!(refused.to_string().contains("does not fit the engine"), "{refused}");
}

#[tokio::test]
async fn names_of_many_megabytes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime(directory.path());
    let exports: String =
        (0..100).map(|number| format!("(export \"{}{number}\" (func 0))", "x".repeat(90_000))).collect();
    let text = format!(
        r#"(module (memory (export "memory") 1) (func (export "process") (result i32) (i32.const 0)) {exports})"#
    );
    let refused = runtime.load(wat::parse_str(text).unwrap().into(), Metering::Fuel).await.unwrap_err();
    assert!(refused.to_string().contains("names of its imports and exports"), "{refused}");
}

//! `init: snapshot`: initialised once, ahead, with no powers; every execution starts from there.

use bytes::Bytes;
use mentat_manifest::{ByteCount, Init, LimitsRequest, Metering};
use mentat_runtime::error::Error;
use mentat_runtime::model::{Invocation, Outcome};
use mentat_runtime::security::policy::{Rules, UserPowers};
use mentat_runtime::{Loaded, Preparation};

use crate::harness::runtime;

async fn load(text: &str, init: Option<Init>) -> Result<Loaded, Error> {
    let module = Bytes::from(wat::parse_str(text).unwrap());
    runtime().load(module, Preparation { metering: Metering::Fuel, init }).await
}

async fn snapshot(text: &str) -> Result<Loaded, Error> {
    load(text, Some(Init::Snapshot)).await
}

async fn refused(text: &str) -> String {
    snapshot(text).await.unwrap_err().to_string()
}

async fn execute(loaded: &Loaded) -> Outcome {
    let grant =
        Rules::default().decide_for_user(None, &LimitsRequest::default(), UserPowers::default()).unwrap();
    runtime().execute(&loaded.module, &grant, Invocation::new("x")).await
}

/// Counts to a million when it is initialised, notes how often that happened, and grows its memory.
const COUNTS: &str = r#"(module
    (memory (export "memory") 1 100)
    (global $times (mut i32) (i32.const 0))
    (func (export "_initialize")
      (local $left i32)
      (local.set $left (i32.const 1000000))
      (loop $again
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left)))
      (drop (memory.grow (i32.const 2)))
      (i32.store (i32.const 150000) (i32.const 40))
      (global.set $times (i32.add (global.get $times) (i32.const 1))))
    (func (export "process") (result i32)
      (i32.store (i32.const 150000) (i32.add (i32.load (i32.const 150000)) (global.get $times)))
      (global.set $times (i32.add (global.get $times) (i32.const 1)))
      (i32.load (i32.const 150000))))"#;

#[tokio::test]
async fn every_execution_starts_from_the_memory_of_the_initialised_module() {
    let (plain, snapshot) = (load(COUNTS, None).await.unwrap(), snapshot(COUNTS).await.unwrap());
    for _ in 0..3 {
        let (plain, snapshot) = (execute(&plain).await, execute(&snapshot).await);
        assert_eq!(plain.result.unwrap().exit_code, 41);
        assert_eq!(snapshot.result.unwrap().exit_code, 41);
        assert!(plain.usage.fuel.unwrap().0 > 1_000_000 && snapshot.usage.fuel.unwrap().0 < 1_000);
        assert_eq!(snapshot.usage.peak_memory, ByteCount(3 << 16));
    }
}

#[tokio::test]
async fn what_a_start_function_and_init_have_done_is_kept_as_well() {
    let loaded = snapshot(
        r#"(module (memory (export "memory") 1) (global $value (mut i64) (i64.const 0))
            (func $start (global.set $value (i64.const 5)))
            (start $start)
            (func (export "init") (global.set $value (i64.mul (global.get $value) (i64.const 2))))
            (func (export "process") (result i32) (i32.wrap_i64 (global.get $value))))"#,
    );
    assert_eq!(execute(&loaded.await.unwrap()).await.result.unwrap().exit_code, 10);
}

#[tokio::test]
async fn initialisation_sees_nothing_of_the_host() {
    for (module, name, kind) in [
        ("wasi_snapshot_preview1", "random_get", "(param i32 i32) (result i32)"),
        ("wasi_snapshot_preview1", "clock_time_get", "(param i32 i64 i32) (result i32)"),
        ("wasi_snapshot_preview1", "fd_read", "(param i32 i32 i32 i32) (result i32)"),
        ("wasi_snapshot_preview1", "fd_write", "(param i32 i32 i32 i32) (result i32)"),
        ("mentat", "read_input", "(param i32 i32) (result i32)"),
        ("mentat", "request_capability", "(param i32 i32) (result i32)"),
    ] {
        let arguments = kind.split(')').next().unwrap().matches("i32").count();
        let (arguments, long) =
            if kind.contains("i64") { (1, "(i64.const 0) (i32.const 0)") } else { (arguments, "") };
        let arguments = "(i32.const 0)".repeat(arguments);
        let text = format!(
            r#"(module (import "{module}" "{name}" (func $call {kind})) (memory (export "memory") 1)
              (func (export "_initialize") (drop (call $call {arguments} {long})))
              (func (export "process") (result i32) (i32.const 0)))"#
        );
        let said = refused(&text).await;
        assert!(said.contains(&format!("initialisation called `{module}.{name}`")), "{said}");
        // Called by nothing, it is no obstacle.
        let unused =
            text.replace("_initialize", "unused").replace("(memory", "(func (export \"init\")) (memory");
        assert!(snapshot(&unused).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn what_is_the_same_everywhere_may_be_asked() {
    let loaded = snapshot(
        r#"(module
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
            (import "mentat" "log" (func $log (param i32 i32 i32)))
            (memory (export "memory") 1) (data (i32.const 0) "\09\09\09\09\09\09\09\09")
            (func (export "_initialize")
              (call $log (i32.const 2) (i32.const 0) (i32.const 1))
              (i32.store (i32.const 8) (call $sizes (i32.const 0) (i32.const 4)))
              (i32.store (i32.const 12) (call $prestat (i32.const 3) (i32.const 0))))
            (func (export "process") (result i32)
              (i32.add (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 4)))
                       (i32.add (i32.load (i32.const 8)) (i32.load (i32.const 12))))))"#,
    );
    assert_eq!(
        execute(&loaded.await.unwrap()).await.result.unwrap().exit_code,
        8,
        "the error of no descriptor"
    );
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_with_the_reason() {
    let module = |rest: &str| format!(r#"(module (memory (export "memory") 1) {rest})"#);
    let process = r#"(func (export "process") (result i32) (i32.const 0))"#;
    for (text, said) in [
        (module(process), "nothing that initialises it"),
        (module(&format!(r#"{process} (func (export "_initialize") unreachable)"#)), "unreachable"),
        (module(&format!(r#"{process} (func (export "init") (loop (br 0)))"#)), "fuel"),
        (
            module(&format!(r#"{process} (func (export "init") (drop (memory.grow (i32.const 60000))))"#)),
            "grow",
        ),
        (module(r#"(func (export "_start")) (func (export "init"))"#), "`_start`, each time"),
        (
            module(&format!(
                r#"{process} (table 1 funcref)
                (func (export "init") (table.set (i32.const 0) (ref.null func)))"#
            )),
            "table.set",
        ),
        (module(&format!(r#"{process} (func (export "init") (param i32))"#)), "init"),
    ] {
        let found = refused(&text).await;
        assert!(found.contains("`init: snapshot` cannot be done") && found.contains(said), "{said}: {found}");
    }
}

/// A component whose `init` stores a number that `process` answers as its output's only byte.
fn component(init: &str, memory: &str) -> String {
    format!(
        r#"(component
          (core module $code
            (memory (export "memory") {memory})
            (func (export "init") {init})
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
            (func (export "process") (param i32 i32) (result i32)
              (i32.store (i32.const 16) (i32.const 0))
              (i32.store (i32.const 20) (i32.const 8))
              (i32.store (i32.const 24) (i32.const 1))
              i32.const 16))
          (core instance $agent (instantiate $code))
          (func (export "init") (canon lift (core func $agent "init")))
          (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
            (canon lift (core func $agent "process")
              (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))"#
    )
}

#[tokio::test]
async fn a_component_is_initialised_as_well() {
    let stores = "(i32.store8 (i32.const 8) (i32.const 65))";
    let plain = load(&component(stores, "1"), None).await.unwrap();
    assert_eq!(execute(&plain).await.result.unwrap().output, Bytes::from_static(b"\0"));
    let loaded = snapshot(&component(stores, "1")).await.unwrap();
    for _ in 0..2 {
        let outcome = execute(&loaded).await;
        assert_eq!(outcome.result.unwrap().output, Bytes::from_static(b"A"));
        assert_eq!(outcome.usage.peak_memory, ByteCount(1 << 16), "what reads it takes nothing from it");
    }
}

#[tokio::test]
async fn a_component_that_cannot_be_initialised_is_refused() {
    assert!(refused(&component("unreachable", "1")).await.contains("unreachable"));
    assert!(refused(&component("(loop (br 0))", "1")).await.contains("fuel"));
    assert!(refused(&component("", "1 1")).await.contains("may be at its maximum"));
    let hidden = component("", "1").replace("(component", "(component (core module (memory 1) (func))");
    assert!(refused(&hidden).await.contains("exports nothing"));
    // Without code as well, which the library for snapshots would not survive.
    let bare = component("", "1").replace(
        "(component",
        "(component (core module $bare (memory 1)) (core instance (instantiate $bare))",
    );
    assert!(refused(&bare).await.contains("exports nothing"));
}

//! The core ABI: a guest that makes the host calls its input says, with the pointers and lengths its
//! input says. Whatever they are, the execution ends in a row of the error table, within its limits.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mentat_manifest::{ByteCount, Fuel, LimitsRequest, Metering};
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::model::Invocation;
use mentat_runtime::security::policy::{Grant, Rules, UserPowers};
use mentat_runtime::{Allocator, Compiler, EngineConfig, Loaded, Runtime, RuntimeConfig};

/// The guest: takes its input as a list of calls of 16 bytes each (which call, three arguments), and
/// makes one after the other. Its memory is one page, so that most arguments miss it.
pub const GUEST: &str = r#"
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (import "mentat" "result_read" (func $result_read (param i32 i32 i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (import "mentat" "request_capability" (func $request_capability (param i32 i32) (result i32)))
  (import "mentat" "download_media" (func $download_media (param i32 i32) (result i32)))
  (import "mentat" "upload_media" (func $upload_media (param i32 i32 i32 i32) (result i32)))
  (import "mentat" "write_stream" (func $write_stream (param i32 i32 i32) (result i32)))
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (memory (export "memory") 1 2)
  (func (export "process") (result i32)
    (local $at i32) (local $end i32) (local $which i32) (local $a i32) (local $b i32) (local $c i32)
    (local.set $end (call $read_input (i32.const 0) (i32.const 65536)))
    (loop $next
      (if (i32.gt_u (i32.add (local.get $at) (i32.const 16)) (local.get $end)) (then (return (i32.const 0))))
      (if (i32.gt_u (local.get $at) (i32.const 65520)) (then (return (i32.const 0))))
      (local.set $which (i32.and (i32.load (local.get $at)) (i32.const 15)))
      (local.set $a (i32.load offset=4 (local.get $at)))
      (local.set $b (i32.load offset=8 (local.get $at)))
      (local.set $c (i32.load offset=12 (local.get $at)))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (block $abort (block $upload (block $download (block $stream (block $request (block $error (block $result
        (block $log (block $write (block $read
          (br_table $read $write $log $result $error $request $stream $abort $download $upload $abort
            (local.get $which)))
        (drop (call $read_input (local.get $a) (local.get $b))) (br $next))
        (drop (call $write_output (local.get $a) (local.get $b))) (br $next))
        (call $log (local.get $c) (local.get $a) (local.get $b)) (br $next))
        (drop (call $result_read (local.get $c) (local.get $a) (local.get $b))) (br $next))
        (drop (call $last_error (local.get $a) (local.get $b))) (br $next))
        (drop (call $request_capability (local.get $a) (local.get $b))) (br $next))
        (drop (call $write_stream (local.get $c) (local.get $a) (local.get $b))) (br $next))
        (drop (call $download_media (local.get $a) (local.get $b))) (br $next))
        (drop (call $upload_media (local.get $a) (local.get $b) (local.get $c) (local.get $b))) (br $next))
      (call $abort (local.get $a) (local.get $b) (local.get $c) (i32.const 1))
      (br $next))
    (unreachable)))
"#;

const LIMITS: LimitsRequest = LimitsRequest {
    memory_bytes: Some(ByteCount(1 << 20)),
    fuel: Some(Fuel(1_000_000)),
    timeout: Some(Duration::from_secs(10)),
    output_bytes: Some(ByteCount(32 << 10)),
    log_bytes: Some(ByteCount(4 << 10)),
    log_lines: Some(16),
    metering: None,
};

/// What is made once in a process.
struct Bench {
    executor: tokio::runtime::Runtime,
    loaded: Loaded,
    grant: Grant,
}

/// The runtime that all targets of this process share.
///
/// # Panics
/// When this machine cannot make one.
pub fn runtime() -> &'static Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        // A sanitizer leaves no address space for a pool.
        let engine =
            EngineConfig { allocator: Allocator::OnDemand, max_executions: 4, ..EngineConfig::default() };
        // A directory that stays: every test is a process of its own, and none would clear its own.
        let artifacts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz-artifacts");
        let config = RuntimeConfig { engine, artifacts: Some(artifacts), ..RuntimeConfig::default() };
        Arc::new(Runtime::new(config, Compiler::InProcess).expect("a small runtime fits any machine"))
    })
}

/// Executes the guest with the bytes as its input.
///
/// # Panics
/// When an execution ends in a way that no input may cause.
pub fn run(bytes: &[u8]) {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    let bench = BENCH.get_or_init(Bench::new);
    let invocation = Invocation::new(bytes.to_vec());
    let outcome = bench.executor.block_on(runtime().execute(&bench.loaded.module, &bench.grant, invocation));
    let limits = bench.grant.limits();
    assert!(outcome.logs.len() <= 16, "{} log lines", outcome.logs.len());
    assert!(outcome.usage.peak_memory <= limits.memory_bytes);
    match &outcome.result {
        Ok(answer) => assert!(answer.output.len() as u64 <= limits.output_bytes.0),
        Err(error) => {
            super::check_error(error);
            check_reason(error);
        }
    }
}

fn check_reason(error: &Error) {
    let reason = error.reason();
    let expected = [Reason::Trap, Reason::FuelExhausted, Reason::OutputTooLarge];
    assert!(expected.contains(&reason), "{reason}: {error}");
}

impl Bench {
    fn new() -> Self {
        let executor = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let executor = executor.expect("an executor without I/O");
        let module = wat::parse_str(GUEST).expect("the guest is WebAssembly text");
        let loaded = executor.block_on(runtime().load(module.into(), Metering::Fuel));
        let loaded = loaded.unwrap_or_else(|error| panic!("the guest can be loaded: {error}"));
        let grant = Rules::default().decide_for_user(None, &LIMITS, UserPowers::default());
        Self { executor, loaded, grant: grant.expect("the limits are under the ceiling") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(which: u32, a: u32, b: u32, c: u32) -> Vec<u8> {
        [which, a, b, c].into_iter().flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn pointers_at_every_edge_and_their_neighbours_hold() {
        let edges = [0, 1, 4, 65_535, 65_536, 65_537, 0x7FFF_FFFF, 0x8000_0000, u32::MAX];
        let mut seeds = Vec::new();
        for which in 0..8 {
            for a in edges {
                for b in edges {
                    seeds.push(
                        [call(which, a, b, 2), call(1, 0, 16, 0), call(which, b, a, u32::MAX)].concat(),
                    );
                }
            }
        }
        for bytes in crate::variations(&seeds, 1) {
            run(&bytes);
        }
    }

    #[test]
    fn the_guest_makes_the_calls_its_input_says() {
        let input = [call(1, 4, 8, 0), call(2, 0, 1, 0)].concat();
        let bench = Bench::new();
        let outcome = bench.executor.block_on(runtime().execute(
            &bench.loaded.module,
            &bench.grant,
            Invocation::new(input.clone()),
        ));
        assert_eq!(outcome.result.unwrap().output, input[4..12]);
        assert_eq!(outcome.logs.len(), 1);
    }
}

//! Every call of the host is counted, once, by its kind: what a guest of known habits called is what its usage says.

use mentat_runtime::model::{HostCallKind, Outcome};

use crate::harness::Test;

/// Calls each of the `mentat` functions, and functions of both versions of WASI for core modules, most of them in vain.
const CORE: &str = r#"(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (import "mentat" "result_read" (func $result_read (param i32 i32 i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
  (import "mentat" "invoke_capability" (func $invoke (param i32 i32 i32) (result i32)))
  (import "mentat" "release_capability" (func $release (param i32) (result i32)))
  (import "mentat" "download_media" (func $download (param i32 i32) (result i32)))
  (import "mentat" "upload_media" (func $upload (param i32 i32 i32 i32) (result i32)))
  (import "mentat" "start_stream" (func $start (param i32 i32) (result i32)))
  (import "mentat" "write_stream" (func $write (param i32 i32 i32) (result i32)))
  (import "mentat" "end_stream" (func $end (param i32) (result i32)))
  (import "mentat" "record_metric" (func $metric (param i32 i32 f64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (local $left i32)
    (drop (call $read_input (i32.const 0) (i32.const 8)))
    (drop (call $write_output (i32.const 0) (i32.const 1)))
    (drop (call $write_output (i32.const 0) (i32.const 1)))
    (local.set $left (i32.const 1000))
    (loop $again
      (call $log (i32.const 0) (i32.const 0) (i32.const 1))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (drop (call $result_read (i32.const 0) (i32.const 0) (i32.const 0)))
    (drop (call $last_error (i32.const 0) (i32.const 0)))
    (drop (call $request (i32.const 0) (i32.const 1)))
    (drop (call $request (i32.const 0) (i32.const 1)))
    (drop (call $request (i32.const 0) (i32.const 1)))
    (drop (call $invoke (i32.const 1) (i32.const 0) (i32.const 0)))
    (drop (call $invoke (i32.const 1) (i32.const 0) (i32.const 0)))
    (drop (call $release (i32.const 1)))
    (drop (call $download (i32.const 0) (i32.const 0)))
    (drop (call $upload (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (drop (call $start (i32.const 0) (i32.const 0)))
    (drop (call $write (i32.const 0) (i32.const 0) (i32.const 0)))
    (drop (call $end (i32.const 0)))
    (drop (call $metric (i32.const 0) (i32.const 0) (f64.const 0)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16)))
    (drop (call $fd_close (i32.const 99)))
    (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 16)))
    (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 16)))
    (drop (call $random (i32.const 16) (i32.const 4)))
    (drop (call $args (i32.const 16) (i32.const 20)))
    (drop (call $yield))
    (drop (call $shutdown (i32.const 99) (i32.const 0)))
    (call $exit (i32.const 5))
    unreachable))"#;

/// Writes three lines, reads an input that has ended twice, looks at a clock twice, takes a number, and gives back what it
/// reads from.
const COMPONENT: &str = r#"(component
  (import "mentat:agent/log@1.0.0" (instance $log
    (type $level (enum "error" "warn" "info" "debug" "trace"))
    (export "level" (type $exported (eq $level)))
    (export "log" (func (param "level" $exported) (param "message" string)))))
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $error))
    (export "input-stream" (type $input (sub resource)))
    (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]input-stream.read"
      (func (param "self" (borrow $input)) (param "len" u64) (result (result (list u8) (error $stream-error)))))))
  (alias export $streams "input-stream" (type $input))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input (type $input))
    (export "input-stream" (type $exported (eq $input)))
    (export "get-stdin" (func (result (own $exported))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
  (core module $libc
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (core func $log (canon lower (func $log "log") (memory (core memory $libc "memory"))))
  (core func $read (canon lower (func $streams "[method]input-stream.read")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $get-stdin (canon lower (func $stdin "get-stdin")))
  (core func $drop (canon resource.drop $input))
  (core func $now (canon lower (func $clock "now")))
  (core func $number (canon lower (func $random "get-random-u64")))
  (core module $code
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "read" (func $read (param i32 i64 i32)))
    (import "host" "get-stdin" (func $get-stdin (result i32)))
    (import "host" "drop" (func $drop (param i32)))
    (import "host" "now" (func $now (result i64)))
    (import "host" "number" (func $number (result i64)))
    (func (export "run") (result i32)
      (local $stdin i32)
      (call $log (i32.const 2) (i32.const 0) (i32.const 1))
      (call $log (i32.const 2) (i32.const 0) (i32.const 1))
      (call $log (i32.const 2) (i32.const 0) (i32.const 1))
      (local.set $stdin (call $get-stdin))
      (call $read (local.get $stdin) (i64.const 8) (i32.const 64))
      (call $read (local.get $stdin) (i64.const 8) (i32.const 64))
      (call $drop (local.get $stdin))
      (drop (call $now))
      (drop (call $now))
      (drop (call $number))
      i32.const 0))
  (core instance $main (instantiate $code (with "host" (instance
    (export "log" (func $log)) (export "read" (func $read)) (export "get-stdin" (func $get-stdin))
    (export "drop" (func $drop)) (export "now" (func $now)) (export "number" (func $number))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#;

fn counted(outcome: &Outcome) -> Vec<(&'static str, u64)> {
    outcome.host_calls.iter().map(|(kind, count)| (kind.as_str(), count)).collect()
}

#[tokio::test]
async fn calls_of_a_core_module_are_counted_by_kind() {
    let outcome = Test::wat(CORE).run().await;
    assert_eq!(outcome.result.as_ref().unwrap().exit_code, 5);
    let expected = [
        ("capability_invoke", 2),
        ("capability_release", 1),
        ("capability_request", 3),
        ("input", 1),
        ("last_error", 1),
        ("log", 1000),
        ("media", 2),
        ("metric", 1),
        ("output", 2),
        ("result", 1),
        ("stream", 3),
        ("wasi_clocks", 2),
        ("wasi_environment", 1),
        ("wasi_exit", 1),
        ("wasi_files", 2),
        ("wasi_poll", 1),
        ("wasi_random", 1),
        ("wasi_sockets", 1),
    ];
    assert_eq!(counted(&outcome), expected);
}

#[tokio::test]
async fn calls_of_a_component_are_counted_once_whether_they_fail_or_not() {
    let outcome = Test::wat(COMPONENT).run().await;
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    let expected =
        [("log", 3), ("wasi_clocks", 2), ("wasi_environment", 1), ("wasi_random", 1), ("wasi_streams", 3)];
    assert_eq!(counted(&outcome), expected);
}

#[tokio::test]
async fn the_call_that_ends_a_guest_is_counted() {
    let guest = |call: &str| {
        format!(
            r#"(module
              (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
              (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
              (import "wasi_unstable" "random_get" (func $random (param i32 i32) (result i32)))
              (memory (export "memory") 1)
              (func (export "process") (result i32) {call} i32.const 0))"#
        )
    };
    for (call, expected) in [
        ("(drop (call $write_output (i32.const 65530) (i32.const 100)))", HostCallKind::Output),
        ("(call $abort (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", HostCallKind::Abort),
        ("(drop (call $random (i32.const 65530) (i32.const 100)))", HostCallKind::WasiRandom),
    ] {
        let outcome = Test::wat(&guest(call)).run().await;
        let counts: Vec<_> = outcome.host_calls.iter().collect();
        assert_eq!(counts, [(expected, 1)], "{call}: {:?}", outcome.result);
    }
}

//! The guests that these tests load: small texts, one behaviour each.

/// Writes its input.
pub const ECHO: &str = r#"(module
  (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (local $length i32)
    (local.set $length (call $read (i32.const 0) (i32.const 0)))
    (drop (memory.grow (i32.div_u (i32.add (local.get $length) (i32.const 65535)) (i32.const 65536))))
    (drop (call $write (i32.const 0) (call $read (i32.const 0) (local.get $length))))
    (i32.const 0)))"#;

/// Computes without end.
pub const LOOP: &str = r#"(module (memory (export "memory") 1)
  (func (export "process") (result i32) (loop (br 0)) (i32.const 0)))"#;

/// Traps in a function called `inner_function`.
pub const TRAP: &str = r#"(module (memory (export "memory") 1)
  (func $inner_function unreachable)
  (func (export "process") (result i32) (call $inner_function) (i32.const 0)))"#;

/// Grows until refused, then gives up.
pub const HOARD: &str = r#"(module (memory (export "memory") 1)
  (func (export "process") (result i32)
    (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable))"#;

/// Recurses without end.
pub const RECURSE: &str = r#"(module (memory (export "memory") 1)
  (func $down (result i32) (i32.add (call $down) (i32.const 1)))
  (func (export "process") (result i32) (call $down)))"#;

/// Writes two pages of output.
pub const WRITE: &str = r#"(module
  (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "process") (result i32) (call $write (i32.const 0) (i32.const 131072))))"#;

/// Sleeps for an hour.
pub const SLEEP: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 104) (i32.const 1) (i32.const 200)))))"#;

/// Logs one line and exits with 3.
pub const EXIT_3: &str = r#"(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "three it is")
  (func (export "process") (result i32)
    (call $log (i32.const 1) (i32.const 0) (i32.const 11))
    (i32.const 3)))"#;

/// Imports what nobody offers.
pub const UNKNOWN_IMPORT: &str = r#"(module
  (import "acme" "conjure" (func))
  (import "mentat" "levitate" (func (param i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (i32.const 0)))"#;

/// A module in binary form.
pub fn assemble(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// A manifest of that id and version, with generous limits.
pub fn manifest(id: &str, version: &str) -> String {
    manifest_with(id, version, "  timeout_ms: 20000\n")
}

/// A manifest whose `wasm` part has these lines.
pub fn manifest_with(id: &str, version: &str, wasm: &str) -> String {
    format!("id: {id}\nversion: {version}\nruntime: wasm\nmodule: agent.wasm\nwasm:\n{wasm}")
}

/// Writes numbered lines to a stream `numbers`, as many as its input says in digits, and the last of them as its output.
pub const NUMBERS: &str = r#"(module
  (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $output (param i32 i32) (result i32)))
  (import "mentat" "start_stream" (func $start (param i32 i32) (result i32)))
  (import "mentat" "write_stream" (func $write (param i32 i32 i32) (result i32)))
  (import "mentat" "end_stream" (func $end (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "numbers")
  (data (i32.const 16) "00000000\n")
  (func $increment (local $at i32)
    (local.set $at (i32.const 23))
    (loop $carry
      (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (i32.const 1)))
      (if (i32.gt_u (i32.load8_u (local.get $at)) (i32.const 57))
        (then
          (i32.store8 (local.get $at) (i32.const 48))
          (local.set $at (i32.sub (local.get $at) (i32.const 1)))
          (br $carry)))))
  ;; PAUSE milliseconds
  (func $pause
    (i32.store (i32.const 320) (i32.const 1))
    (i64.store (i32.const 328) (i64.const PAUSE000000))
    (drop (call $poll (i32.const 304) (i32.const 408) (i32.const 1) (i32.const 500))))
  (func (export "process") (result i32) (local $left i32) (local $at i32) (local $stream i32)
    (local.set $at (i32.add (i32.const 100) (call $read (i32.const 100) (i32.const 16))))
    (i32.store8 (local.get $at) (i32.const 0))
    (local.set $at (i32.const 100))
    (loop $digit
      (local.set $left (i32.add (i32.mul (local.get $left) (i32.const 10))
        (i32.sub (i32.load8_u (local.get $at)) (i32.const 48))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $digit (i32.load8_u (local.get $at))))
    (local.set $stream (call $start (i32.const 0) (i32.const 7)))
    (loop $next
      (call $increment)
      (if (i32.ne (call $write (local.get $stream) (i32.const 16) (i32.const 9)) (i32.const 0))
        (then (return (i32.const 1))))
      (if (i32.const PAUSE) (then (call $pause)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    (drop (call $end (local.get $stream)))
    (call $output (i32.const 16) (i32.const 9))))"#;

/// The same, with so many milliseconds behind each line.
pub fn numbers(pause_ms: u32) -> String {
    NUMBERS.replace("PAUSE", &pause_ms.to_string())
}

;; Asks for the capability in the first line of its input, and uses it with each further line as arguments. Its output
;; is the last result; where a call fails, its output is the error's text and its exit code the error's number.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
  (import "mentat" "invoke_capability" (func $invoke (param i32 i32 i32) (result i32)))
  (import "mentat" "release_capability" (func $release (param i32) (result i32)))
  (import "mentat" "result_read" (func $result_read (param i32 i32 i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (memory (export "memory") 64)
  (global $end (mut i32) (i32.const 0))
  (global $at (mut i32) (i32.const 0))
  ;; The length of the line at $at.
  (func $line (result i32)
    (local $scan i32)
    (local.set $scan (global.get $at))
    (block $found
      (loop $next
        (br_if $found (i32.ge_u (local.get $scan) (global.get $end)))
        (br_if $found (i32.eq (i32.load8_u (local.get $scan)) (i32.const 10)))
        (local.set $scan (i32.add (local.get $scan) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $scan) (global.get $at)))
  (func $fail (param $code i32) (result i32)
    (drop (call $write_output (i32.const 0x200000) (call $last_error (i32.const 0x200000) (i32.const 0x10000))))
    (local.get $code))
  (func (export "process") (result i32)
    (local $length i32) (local $handle i32) (local $got i32)
    (global.set $end (call $read_input (i32.const 0) (i32.const 0x100000)))
    (local.set $length (call $line))
    (local.set $handle (call $request (global.get $at) (local.get $length)))
    (if (i32.le_s (local.get $handle) (i32.const 0)) (then (return (call $fail (local.get $handle)))))
    (loop $uses
      (global.set $at (i32.add (global.get $at) (i32.add (local.get $length) (i32.const 1))))
      (if (i32.lt_u (global.get $at) (global.get $end)) (then
        (local.set $length (call $line))
        (local.set $got (call $invoke (local.get $handle) (global.get $at) (local.get $length)))
        (if (i32.lt_s (local.get $got) (i32.const 0)) (then (return (call $fail (local.get $got)))))
        (br $uses))))
    (local.set $got (call $result_read (i32.const 0) (i32.const 0x200000) (i32.const 0x200000)))
    (if (i32.gt_s (local.get $got) (i32.const 0)) (then
      (drop (call $write_output (i32.const 0x200000) (local.get $got)))))
    (call $release (local.get $handle))))

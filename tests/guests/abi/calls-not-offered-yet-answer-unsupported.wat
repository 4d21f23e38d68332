;; expect: ok
;; output: not supported here: this runtime does not offer the call yet
;; Every call for streams and metrics is linked, so that a module built today runs tomorrow, and
;; answers UNSUPPORTED, -38. The exit code is the number of the call that did not; the output is `last_error`.
(module
  (import "mentat" "start_stream" (func $start (param i32 i32) (result i32)))
  (import "mentat" "write_stream" (func $write (param i32 i32 i32) (result i32)))
  (import "mentat" "end_stream" (func $end (param i32) (result i32)))
  (import "mentat" "record_metric" (func $record (param i32 i32 f64) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (if (i32.ne (call $start (i32.const 0) (i32.const 7)) (i32.const -38)) (then (return (i32.const 6))))
    (if (i32.ne (call $write (i32.const 0) (i32.const 0) (i32.const 7)) (i32.const -38))
      (then (return (i32.const 7))))
    (if (i32.ne (call $end (i32.const 2147483647)) (i32.const -38)) (then (return (i32.const 8))))
    (if (i32.ne (call $record (i32.const 0) (i32.const 7) (f64.const nan)) (i32.const -38))
      (then (return (i32.const 9))))
    (call $write_output (i32.const 100) (call $last_error (i32.const 100) (i32.const 1000)))))

;; expect: ok
;; output: the output
;; logs: printed
;; A module with `process` has its own call for output: what it prints to stdout is for people, and becomes a log
;; line. Its stdin is empty, although there is an input.
;; input: some input
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\07\00\00\00printed")
  (data (i32.const 100) "the output")
  (func (export "process") (result i32)
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 52)) (then (return (i32.const 1))))
    (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 52)) (then (return (i32.const 2))))
    (if (i32.load (i32.const 52)) (then (return (i32.const 3))))
    (call $write_output (i32.const 100) (i32.const 10))))

;; expect: TRAP
;; logs: half a line
;; Writes an output and half a line of its log, and traps. The next execution has neither.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "mentat" "write_output" (func $output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\0b\00\00\00half a line")
  (func (export "process") (result i32)
    (drop (call $output (i32.const 8) (i32.const 11)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))
    unreachable))

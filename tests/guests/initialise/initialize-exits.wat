;; expect: exit 3
;; output:
;; `proc_exit(3)` inside `_initialize` is the guest's own end: its exit code, and `process` does not run.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_initialize") (call $proc_exit (i32.const 3)))
  (func (export "process") (result i32) (call $write_output (i32.const 0) (i32.const 1))))

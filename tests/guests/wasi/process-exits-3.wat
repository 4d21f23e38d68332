;; expect: exit 3
;; output: bye
;; `proc_exit` out of `process`: the status is the exit code, and the output that was set before counts.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "bye")
  (func (export "process") (result i32)
    (drop (call $write_output (i32.const 0) (i32.const 3)))
    (call $proc_exit (i32.const 3))
    i32.const 9))

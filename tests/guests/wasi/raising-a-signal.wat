;; expect: ok
;; `proc_raise` of a kill signal: `notsup` (58), and nobody is killed.
(module
  (import "wasi_snapshot_preview1" "proc_raise" (func $proc_raise (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (i32.ne (call $proc_raise (i32.const 9)) (i32.const 58))))

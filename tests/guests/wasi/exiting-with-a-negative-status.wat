;; expect: exit -1
;; `proc_exit(-1)`: the status is 32 bits wide in WASI, and kept whole.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $proc_exit (i32.const -1))))

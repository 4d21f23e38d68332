;; expect: TRAP
;; says: out of bounds
;; The place for the time ends four bytes behind memory. WASI's rule for such pointers is a trap.
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $time (i32.const 1) (i64.const 1) (i32.const 65532)))))

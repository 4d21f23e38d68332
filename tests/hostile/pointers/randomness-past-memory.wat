;; expect: TRAP
;; says: out of bounds
;; within_ms: 500
;; A hundred bytes of which one lies behind memory.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $random_get (i32.const 65437) (i32.const 100)))))

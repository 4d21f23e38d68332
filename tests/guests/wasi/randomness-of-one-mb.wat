;; expect: ok
;; within_ms: 1000
;; Randomness works: a megabyte of it is not all zero at its end.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "process") (result i32)
    (if (call $random_get (i32.const 64) (i32.const 1048576)) (then (return (i32.const 1))))
    (i64.eqz (i64.load (i32.const 1048632)))))

;; expect: TRAP
;; says: random
;; within_ms: 1000
;; 64 MB of randomness in one call. Wasmtime makes the bytes in host memory first; the host bounds one call
;; to 16 MB, and Wasmtime makes a trap of what is more.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 1024)
  (func (export "process") (result i32) (call $random_get (i32.const 0) (i32.const 67108864))))

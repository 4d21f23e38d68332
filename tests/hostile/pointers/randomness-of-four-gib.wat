;; expect: TRAP
;; within_ms: 500
;; 2^32-1 bytes into a memory of one page: Wasmtime would fill 4 GiB of host memory before it looked at the range, so
;; the bound on one call must come first.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $random_get (i32.const 0) (i32.const -1)))))

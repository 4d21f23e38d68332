;; expect: TRAP
;; says: aligned
;; A list of buffers at an odd address. WASI's rule, which Wasmtime keeps, is a trap; the message says why.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 1) (i32.const 1) (i32.const 8)))))

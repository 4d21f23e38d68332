;; expect: ok
;; output:
;; within_ms: 500
;; An array of 2^32-1 buffers, and one of 2^29 whose size in bytes is 2^32: Wasmtime counts the array against the
;; host's budget for one call before it looks at it, and answers `nomem` (48).
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.ne (call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8)) (i32.const 48))
      (then (call $proc_exit (i32.const 1))))
    (if (i32.ne (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0x20000000) (i32.const 8)) (i32.const 48))
      (then (call $proc_exit (i32.const 2))))
    (if (i32.ne (call $fd_read (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 8)) (i32.const 48))
      (then (call $proc_exit (i32.const 3))))))

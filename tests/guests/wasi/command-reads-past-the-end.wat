;; expect: ok
;; input: x
;; After the end of stdin every read answers 0 bytes, at once and again: it neither blocks nor fails.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func $read (result i32)
    (i32.store (i32.const 0) (i32.const 100))
    (i32.store (i32.const 4) (i32.const 1000))
    (i32.store (i32.const 8) (i32.const -1))
    (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (return (i32.const -1))))
    (i32.load (i32.const 8)))
  (func (export "_start")
    (if (i32.ne (call $read) (i32.const 1)) (then (call $proc_exit (i32.const 1))))
    (if (call $read) (then (call $proc_exit (i32.const 2))))
    (if (call $read) (then (call $proc_exit (i32.const 3))))))

;; expect: ok
;; output:
;; within_ms: 2000
;; A million buffers of no bytes, just within the host's budget for one call, ten times: each is looked at,
;; nothing is written, and it stays quick.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 200)
  (func (export "_start") (local $left i32)
    (local.set $left (i32.const 10))
    (loop
      (if (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1000000) (i32.const 0))
        (then (call $proc_exit (i32.const 1))))
      (if (i32.load (i32.const 0)) (then (call $proc_exit (i32.const 2))))
      (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))

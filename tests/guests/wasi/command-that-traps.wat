;; expect: TRAP
;; says: unreachable
;; logs: about to fail
;; A panic in a command: what it said on stderr without a newline is logged, so that the reason is not lost.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\0d\00\00\00about to fail")
  (func (export "_start")
    (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 100)))
    unreachable))

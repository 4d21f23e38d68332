;; expect: ok
;; output: before
;; stdout closed: what was written before stays the output, later writes answer `badf` (8), and so does closing it
;; again. stdin and stderr can be closed as well, and the execution still ends well.
(module
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\06\00\00\00before")
  (func $check (param $result i32) (param $wanted i32) (param $code i32)
    (if (i32.ne (local.get $result) (local.get $wanted)) (then (call $proc_exit (local.get $code)))))
  (func (export "_start")
    (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 200)) (i32.const 0) (i32.const 1))
    (call $check (call $fd_close (i32.const 1)) (i32.const 0) (i32.const 2))
    (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 200)) (i32.const 8) (i32.const 3))
    (call $check (call $fd_close (i32.const 1)) (i32.const 8) (i32.const 4))
    (call $check (call $fd_close (i32.const 0)) (i32.const 0) (i32.const 5))
    (call $check (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 200)) (i32.const 8) (i32.const 6))
    (call $check (call $fd_close (i32.const 2)) (i32.const 0) (i32.const 7))
    (call $check (call $fd_close (i32.const -1)) (i32.const 8) (i32.const 8))))

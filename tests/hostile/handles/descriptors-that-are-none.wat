;; expect: ok
;; output:
;; Calls on descriptors that are not open, of the wrong direction, or that cannot seek: an error code each, never a
;; trap and never a panic. The exit code is the number of the call that answered something else.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $set_size (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func $check (param $result i32) (param $wanted i32) (param $code i32)
    (if (i32.ne (local.get $result) (local.get $wanted)) (then (call $proc_exit (local.get $code)))))
  (func (export "_start")
    (call $check (call $fd_read (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 8) (i32.const 1))
    (call $check (call $fd_write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 8) (i32.const 2))
    (call $check (call $fd_read (i32.const 99) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 8) (i32.const 3))
    (call $check (call $fd_write (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 8) (i32.const 4))
    (call $check (call $fd_seek (i32.const 1) (i64.const 1) (i32.const 0) (i32.const 8)) (i32.const 70) (i32.const 5))
    (call $check (call $fd_readdir (i32.const 3) (i32.const 0) (i32.const 100) (i64.const 0) (i32.const 200))
      (i32.const 8) (i32.const 6))
    (call $check (call $fd_filestat_get (i32.const 3) (i32.const 0)) (i32.const 8) (i32.const 7))
    (call $check (call $set_size (i32.const 1) (i64.const 0x7fffffffffffffff)) (i32.const 8) (i32.const 8))
    (call $check (call $fd_filestat_get (i32.const 1) (i32.const 0)) (i32.const 0) (i32.const 9))))

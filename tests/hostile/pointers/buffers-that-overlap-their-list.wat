;; expect: ok
;; input: 0123456789abcdef
;; output: 0123456789abcdef
;; Read into a buffer that lies over the list of buffers and over the place of the count: the list must be read
;; before it is overwritten, once. Then the count, written last, is right: 16.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 100) (i32.const 96))
    (i32.store (i32.const 104) (i32.const 50))
    (if (call $fd_read (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 112))
      (then (call $proc_exit (i32.const 1))))
    (if (i32.ne (i32.load (i32.const 112)) (i32.const 16)) (then (call $proc_exit (i32.const 2))))
    (i32.store (i32.const 0) (i32.const 96))
    (i32.store (i32.const 4) (i32.const 16))
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (call $proc_exit (i32.const 3))))))

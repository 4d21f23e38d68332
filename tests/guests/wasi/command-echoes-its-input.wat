;; expect: ok
;; input: one\ntwo\u0000three é
;; output: one\ntwo\u0000three é
;; stdin to stdout, four bytes at a time until the end: the input arrives whole, byte for byte, and ends.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 100))
    (loop $more
      (i32.store (i32.const 4) (i32.const 4))
      (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
        (then (call $proc_exit (i32.const 1))))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))
        (then (call $proc_exit (i32.const 2))))
      (br_if $more (i32.load (i32.const 8))))))

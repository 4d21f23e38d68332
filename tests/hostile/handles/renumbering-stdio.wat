;; expect: ok
;; output: to stdout
;; logs: to stderr
;; stdout moved onto stderr's number, and the other way round by what is left: the streams go on to where they led,
;; only under other numbers. Nothing the guest does to its numbers reaches the host's own stdio.
(module
  (import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\09\00\00\00to stdoutto stderr\n")
  (data (i32.const 100) "\11\00\00\00\0a\00\00\00")
  (func $check (param $result i32) (param $wanted i32) (param $code i32)
    (if (i32.ne (local.get $result) (local.get $wanted)) (then (call $proc_exit (local.get $code)))))
  (func (export "_start")
    (call $check (call $fd_write (i32.const 2) (i32.const 100) (i32.const 1) (i32.const 200)) (i32.const 0) (i32.const 1))
    ;; stdin's number now is stdout.
    (call $check (call $fd_renumber (i32.const 1) (i32.const 0)) (i32.const 0) (i32.const 2))
    ;; Number 1 is free: `badf` (8), both to write to and to renumber to.
    (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 200)) (i32.const 8) (i32.const 3))
    (call $check (call $fd_renumber (i32.const 0) (i32.const 1)) (i32.const 8) (i32.const 4))
    (call $check (call $fd_renumber (i32.const 0) (i32.const -1)) (i32.const 8) (i32.const 5))
    (call $check (call $fd_renumber (i32.const 0) (i32.const 0)) (i32.const 0) (i32.const 6))
    ;; stdout over stderr: what was stderr is closed.
    (call $check (call $fd_renumber (i32.const 0) (i32.const 2)) (i32.const 0) (i32.const 7))
    (call $check (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 200)) (i32.const 0) (i32.const 8))))

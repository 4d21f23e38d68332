;; expect: ok
;; output:
;; logs: a line
;; logs: and one without an end \u{1b}[31m
;; stderr becomes log lines, split at newlines, escaped, the unfinished last one included; none of it is output.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\25\00\00\00a line\0d\0a\0aand one without an end \1b[31m")
  (func (export "_start")
    (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 100)))))

;; expect: ok
;; output:
;; logs: xxxxxxxx
;; limits: log=64KB
;; within_ms: 5000
;; A gigabyte to stderr in one line without an end: the line is cut, the rest counted, and the program ends as it
;; likes, since a chatty program is no failed one.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "_start") (local $left i32)
    (local.set $left (i32.const 1024))
    (memory.fill (i32.const 65536) (i32.const 120) (i32.const 1048576))
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 1048576))
    (loop
      (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))

;; expect: OUTPUT_TOO_LARGE
;; limits: output=8MB
;; within_ms: 3000
;; A megabyte after another to stdout, a thousand times. The limit ends it in the middle of a write; what was written
;; until then is dropped with the execution.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "_start") (local $left i32)
    (local.set $left (i32.const 1024))
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 1048576))
    (loop
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))

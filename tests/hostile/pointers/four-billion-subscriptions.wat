;; expect: ok
;; within_ms: 500
;; 2^32-1 subscriptions, which lie far outside memory: refused with `nomem` (48) by the number alone, before the
;; array is looked at.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (i32.ne
      (call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0))
      (i32.const 48))))

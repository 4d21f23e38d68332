;; expect: ok
;; within_ms: 500
;; A short sleep ends, and its event says so: one event, of the clock, with the data the guest gave it.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (i64.store (i32.const 0) (i64.const 42))
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 10000000))
    (if (call $poll_oneoff (i32.const 0) (i32.const 96) (i32.const 1) (i32.const 200))
      (then (return (i32.const 1))))
    (if (i32.ne (i32.load (i32.const 200)) (i32.const 1)) (then (return (i32.const 2))))
    (i32.wrap_i64 (i64.sub (i64.load (i32.const 96)) (i64.const 42)))))

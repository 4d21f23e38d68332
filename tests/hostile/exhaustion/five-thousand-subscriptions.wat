;; expect: ok
;; within_ms: 1000
;; `poll_oneoff` with more subscriptions than one call takes. Each costs the host two entries in a table and a timer;
;; the answer is `nomem` (48) before any is made.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 500)
  (func (export "process") (result i32)
    (i32.ne
      (call $poll_oneoff (i32.const 0) (i32.const 16000000) (i32.const 5000) (i32.const 32000000))
      (i32.const 48))))

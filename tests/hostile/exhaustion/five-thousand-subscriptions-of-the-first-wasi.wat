;; expect: ok
;; within_ms: 1000
;; `poll_oneoff` of WASI's forerunner, with more subscriptions than one call takes: the bounds of its successor hold for
;; it as well, `nomem` (48).
(module
  (import "wasi_unstable" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 500)
  (func (export "process") (result i32)
    (i32.ne
      (call $poll_oneoff (i32.const 0) (i32.const 16000000) (i32.const 5000) (i32.const 32000000))
      (i32.const 48))))

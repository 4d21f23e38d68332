;; expect: TIMEOUT
;; limits: timeout_ms=300
;; within_ms: 1000
;; The longest sleep that can be asked for, 2^64-1 ns, relative on one clock and absolute on another: added to the
;; time of now it overflows, which must neither panic nor wake the guest at once.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const -1))
    (i32.store (i32.const 64) (i32.const 1))
    (i64.store (i32.const 72) (i64.const -1))
    (i32.store16 (i32.const 88) (i32.const 1))
    (i32.store (i32.const 112) (i32.const 0))
    (i64.store (i32.const 120) (i64.const -1))
    (i32.store16 (i32.const 136) (i32.const 1))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 200) (i32.const 3) (i32.const 400)))))

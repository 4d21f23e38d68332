;; expect: TIMEOUT
;; limits: timeout_ms=300
;; within_ms: 1000
;; `poll_oneoff` on a clock, one hour. A sleeping guest burns no fuel and crosses no epoch: only a host call that is
;; asynchronous and under the wall clock ends it. (Wasmtime's shortcut for one relative clock sleeps the thread, but
;; only where blocking it was allowed, which the host does not do.)
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store8 (i32.const 8) (i32.const 0))              ;; a clock,
    (i32.store (i32.const 16) (i32.const 1))              ;; the monotonic one,
    (i64.store (i32.const 24) (i64.const 3600000000000))  ;; in an hour
    (drop (call $poll_oneoff (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))))

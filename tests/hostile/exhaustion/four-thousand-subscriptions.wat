;; expect: TIMEOUT
;; limits: timeout_ms=1000
;; within_ms: 3000
;; As many subscriptions as one call takes, 4,096, all sleeping for an hour: the wall clock ends them, and the timers go
;; with the execution.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 200)
  (func (export "process") (result i32) (local $at i32)
    (loop
      (i32.store offset=16 (local.get $at) (i32.const 1))
      (i64.store offset=24 (local.get $at) (i64.const 3600000000000))
      (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 48))) (i32.const 196608))))
    (call $poll_oneoff (i32.const 0) (i32.const 4800000) (i32.const 4096) (i32.const 8000000))))

;; expect: TIMEOUT
;; limits: timeout_ms=300 metering=epoch
;; within_ms: 1000
;; The same in `_initialize` of a module on the mentat ABI.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_initialize")
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200))))
  (func (export "process") (result i32) i32.const 0))

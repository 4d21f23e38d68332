;; expect: TIMEOUT
;; limits: metering=epoch timeout_ms=300
;; within_ms: 1000
;; `_initialize` is under the same wall clock as `process`.
(module
  (memory (export "memory") 1)
  (func (export "_initialize") (loop (br 0)))
  (func (export "process") (result i32) i32.const 0))

;; expect: TIMEOUT
;; limits: metering=epoch timeout_ms=300
;; within_ms: 1000
;; Log calls in a loop where no fuel is counted: host calls that are never pending must not keep the executor from
;; its clock.
(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (loop (call $log (i32.const 2) (i32.const 0) (i32.const 1000)) (br 0))
    unreachable))

;; expect: TIMEOUT
;; says: 300 ms
;; limits: metering=epoch timeout_ms=300
;; within_ms: 1000
;; Without fuel the clock ends it: the guest comes back to its executor with every tick.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) (loop (br 0)) unreachable))

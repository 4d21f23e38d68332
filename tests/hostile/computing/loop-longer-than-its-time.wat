;; expect: TIMEOUT
;; limits: timeout_ms=200 fuel=1000000000000
;; within_ms: 1000
;; Fuel for many minutes and a clock of 200 ms: whichever limit comes first ends it.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) (loop (br 0)) unreachable))

;; expect: FUEL_EXHAUSTED
;; says: 1000000000
;; within_ms: 5000
;; The plainest attack, with the default budget: the fuel ends it, and the error says what the budget was.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) (loop (br 0)) unreachable))

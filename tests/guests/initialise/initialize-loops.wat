;; expect: FUEL_EXHAUSTED
;; limits: fuel=10000000
;; within_ms: 2000
;; `_initialize` spends the same fuel as `process`.
(module
  (memory (export "memory") 1)
  (func (export "_initialize") (loop (br 0)))
  (func (export "process") (result i32) i32.const 0))

;; expect: FUEL_EXHAUSTED
;; limits: fuel=10000000
;; within_ms: 2000
;; A function that tail-calls itself: a loop without a back edge and without a growing stack. Fuel is counted at the
;; entry of functions as well.
(module
  (memory (export "memory") 1)
  (func $again (result i32) (return_call $again))
  (func (export "process") (result i32) (call $again)))

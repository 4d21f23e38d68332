;; expect: FUEL_EXHAUSTED
;; limits: fuel=100000
;; Half of the work in `_initialize`, half in `process`, each within the budget by itself: one execution has one
;; budget.
(module
  (memory (export "memory") 1)
  (func $work (local $left i32)
    (local.set $left (i32.const 10000))
    (loop
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if 0 (local.get $left))))
  (func (export "_initialize") (call $work))
  (func (export "process") (result i32) (call $work) i32.const 0))

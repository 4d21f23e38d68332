;; expect: STACK_OVERFLOW
;; within_ms: 2000
;; Two functions that call each other through a table: the compiler cannot see the recursion.
(module
  (type $step (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (table 2 funcref)
  (elem (i32.const 0) func $even $odd)
  (func $even (type $step)
    (i32.add (call_indirect (type $step) (i32.add (local.get 0) (i32.const 1)) (i32.const 1)) (i32.const 1)))
  (func $odd (type $step)
    (i32.add (call_indirect (type $step) (i32.add (local.get 0) (i32.const 1)) (i32.const 0)) (i32.const 1)))
  (func (export "process") (result i32) (call $even (i32.const 0))))

;; expect: TRAP
;; says: uninitialized element
;; A call through an element of a table that nothing was put into.
(module
  (type $nothing (func))
  (memory (export "memory") 1)
  (table 2 funcref)
  (func (export "process") (result i32) (call_indirect (type $nothing) (i32.const 1)) i32.const 0))

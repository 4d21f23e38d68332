;; expect: TRAP
;; says: table
;; An index of 2^32-1 into a table of one element.
(module
  (type $nothing (func))
  (memory (export "memory") 1)
  (table 1 funcref)
  (func (export "process") (result i32) (call_indirect (type $nothing) (i32.const -1)) i32.const 0))

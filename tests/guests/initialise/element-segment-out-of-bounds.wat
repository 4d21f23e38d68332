;; expect: TRAP
;; says: out of bounds
;; A function reference written behind the end of its table, at instantiation.
(module
  (memory (export "memory") 1)
  (table 2 funcref)
  (elem (i32.const 2) func 0)
  (func (export "process") (result i32) i32.const 0))

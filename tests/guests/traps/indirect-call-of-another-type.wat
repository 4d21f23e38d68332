;; expect: TRAP
;; says: indirect call type mismatch
;; A function of another type behind the index: believed, it would find its arguments where none are.
(module
  (type $nothing (func))
  (memory (export "memory") 1)
  (table 1 funcref)
  (elem (i32.const 0) func $other)
  (func $other (param i64 i64) (result i64) (local.get 0))
  (func (export "process") (result i32) (call_indirect (type $nothing) (i32.const 0)) i32.const 0))

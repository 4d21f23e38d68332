;; expect: INVALID_MODULE
;; says: duplicate export
;; Two exports of one name: which one was checked, and which one would be called?
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) i32.const 0)
  (func (export "process") (param i64) (result i32) i32.const 0))

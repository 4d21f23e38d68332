;; expect: INVALID_MODULE
;; says: type mismatch
;; An `i64` where an `i32` is returned. Found by the validation that comes with compiling; were it not, the
;; compiled code would read a register of the wrong width.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) i64.const 0))

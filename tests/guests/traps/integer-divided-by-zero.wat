;; expect: TRAP
;; says: divide by zero
;; says: divide
;; A division by zero raises a signal of the processor: it must become the guest's trap and not the host's death.
(module
  (memory (export "memory") 1)
  (func $divide (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "process") (result i32) (call $divide (i32.const 7) (i32.const 0))))

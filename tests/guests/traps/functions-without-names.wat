;; expect: TRAP
;; says: unreachable
;; says: function 1
;; A stripped module: the function is called by its index, which a disassembler understands.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call 1) i32.const 0)
  (func unreachable))

;; expect: TRAP
;; says: out of bounds
;; A data segment at 2^32-1: offset and length overflow 32 bits when added.
(module
  (memory (export "memory") 1)
  (data (i32.const -1) "12")
  (func (export "process") (result i32) i32.const 0))

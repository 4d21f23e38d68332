;; expect: TRAP
;; says: out of bounds
;; Eight bytes of which the first seven are inside memory.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (i64.store (i32.const 65529) (i64.const -1))
    i32.const 0))

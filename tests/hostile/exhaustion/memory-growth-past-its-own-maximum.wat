;; expect: TRAP
;; says: unreachable
;; The module's own maximum refuses the growth, far under the agent's limit: telling the author to raise
;; the limit would not help, so this is an ordinary trap.
(module
  (memory (export "memory") 1 2)
  (func (export "process") (result i32)
    (if (i32.eq (memory.grow (i32.const 2)) (i32.const -1)) (then unreachable))
    i32.const 0))

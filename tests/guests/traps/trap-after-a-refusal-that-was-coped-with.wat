;; expect: MEMORY_LIMIT
;; says: divide by zero
;; limits: memory=16MB
;; A growth is refused, and only later the guest divides by zero. Nobody can tell whether the one follows from the
;; other, so the error names both: the limit that was met, and the trap that it then ended with.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (drop (memory.grow (i32.const 1000)))
    (i32.div_u (i32.const 1) (i32.const 0))))

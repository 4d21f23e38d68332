;; expect: MEMORY_LIMIT
;; within_ms: 2000
;; A table of references grown until it is refused: host memory that no linear memory counts.
(module
  (memory (export "memory") 1)
  (table $references 1 externref)
  (func (export "process") (result i32)
    (loop (br_if 0 (i32.ne (table.grow $references (ref.null extern) (i32.const 1000)) (i32.const -1))))
    unreachable))

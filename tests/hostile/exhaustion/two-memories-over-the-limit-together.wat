;; expect: MEMORY_LIMIT
;; limits: memory=16MB
;; within_ms: 1000
;; Two memories of 10 MB each, where 16 MB are allowed. Each is under the limit, their sum is not: the limit is of
;; the execution, or it could be had four times over.
(module
  (memory (export "memory") 160)
  (memory 160)
  (func (export "process") (result i32) i32.const 0))

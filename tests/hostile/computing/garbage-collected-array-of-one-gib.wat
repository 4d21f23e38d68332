;; expect: MEMORY_LIMIT
;; within_ms: 1000
;; One array of 2^27 numbers, 1 GiB, on the garbage-collected heap, where the agent has 64 MB.
(module
  (type $numbers (array (mut i64)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (array.len (array.new_default $numbers (i32.const 134217728)))))

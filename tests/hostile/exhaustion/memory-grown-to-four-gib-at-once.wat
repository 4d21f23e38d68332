;; expect: MEMORY_LIMIT
;; within_ms: 1000
;; One leap to the last page of the address space: refused by its size, before anything is mapped.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (if (i32.eq (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))
    i32.const 0))

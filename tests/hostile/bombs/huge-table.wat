;; expect: INVALID_MODULE
;; says: table 0
;; says: 10000000
;; within_ms: 1000
;; Ten million function references: 80 MB of host memory that no linear-memory limit counts.
(module
  (memory (export "memory") 1)
  (table 10000000 funcref)
  (func (export "process") (result i32) i32.const 0))

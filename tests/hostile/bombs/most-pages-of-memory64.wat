;; expect: INVALID_MODULE
;; says: memory 0
;; within_ms: 1000
;; 2^48 pages, the most that memory64 can say: 2^64 bytes, one more than a `u64` holds.
(module
  (memory (export "memory") i64 281474976710656)
  (func (export "process") (result i32) i32.const 0))

;; expect: INVALID_MODULE
;; says: memory 0
;; says: 64-bit
;; within_ms: 1000
;; The same size where 64-bit addresses make it valid WebAssembly.
(module
  (memory (export "memory") i64 2147483648)
  (func (export "process") (result i32) i32.const 0))

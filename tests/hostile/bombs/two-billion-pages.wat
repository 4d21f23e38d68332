;; expect: INVALID_MODULE
;; says: memory 0
;; within_ms: 1000
;; 2^31 pages are 2^47 bytes: twice invalid, as WebAssembly and by any limit. The product must not overflow into a
;; small number on its way to the comparison.
(module
  (memory (export "memory") 2147483648)
  (func (export "process") (result i32) i32.const 0))

;; expect: INVALID_MODULE
;; says: memory 0
;; says: 64-bit
;; A small memory with 64-bit addresses: the ABI's pointers are 32 bits wide, so they could not reach it.
(module
  (memory (export "memory") i64 1)
  (func (export "process") (result i32) i32.const 0))

;; expect: INVALID_MODULE
;; says: _start
;; says: () -> ()
;; A WASI command's entry point takes nothing and returns nothing; this one is C's `main`.
(module
  (memory (export "memory") 1)
  (func (export "_start") (param i32 i32) (result i32) i32.const 0))

;; expect: INVALID_MODULE
;; says: process
;; The entry point's name on something that cannot be called.
(module
  (memory (export "memory") 1)
  (global (export "process") i32 (i32.const 0)))

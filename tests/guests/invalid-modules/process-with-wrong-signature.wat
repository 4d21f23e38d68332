;; expect: INVALID_MODULE
;; says: process
;; says: () -> i32
;; `process` that takes the input's place and length, as other hosts want it. Calling it with guessed arguments
;; would run the agent on nonsense.
(module
  (memory (export "memory") 1)
  (func (export "process") (param i32 i32) (result i32) i32.const 0))

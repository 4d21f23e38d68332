;; expect: TRAP
;; says: unreachable
;; says: runtime_of_the_language
;; A trap in `_initialize` ends the execution with its place; `process` must not run on a runtime that is half made.
(module
  (memory (export "memory") 1)
  (func $runtime_of_the_language unreachable)
  (func (export "_initialize") (call $runtime_of_the_language))
  (func (export "process") (result i32) i32.const 0))

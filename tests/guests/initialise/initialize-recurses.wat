;; expect: STACK_OVERFLOW
;; within_ms: 2000
;; Recursion without end before `process`.
(module
  (memory (export "memory") 1)
  (func $down (result i32) (i32.add (call $down) (i32.const 1)))
  (func (export "_initialize") (drop (call $down)))
  (func (export "process") (result i32) i32.const 0))

;; expect: STACK_OVERFLOW
;; within_ms: 2000
;; Recursion without end inside instantiation.
(module
  (memory (export "memory") 1)
  (func $start (result i32) (i32.add (call $start) (i32.const 1)))
  (func $begin (drop (call $start)))
  (func (export "process") (result i32) i32.const 0)
  (start $begin))

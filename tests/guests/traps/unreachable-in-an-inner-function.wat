;; expect: TRAP
;; says: unreachable
;; says: inner_function
;; says: outer_function
;; logs: before the trap
;; A panic as compilers make it. The backtrace has the names of the name section, innermost first, and what was
;; logged before is kept.
(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "before the trap")
  (func $inner_function unreachable)
  (func $outer_function (call $inner_function))
  (func (export "process") (result i32)
    (call $log (i32.const 0) (i32.const 0) (i32.const 15))
    (call $outer_function)
    i32.const 0))

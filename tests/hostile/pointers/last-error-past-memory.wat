;; expect: TRAP
;; says: last_error
;; A buffer one byte too far, for a text that is empty.
(module
  (import "mentat" "last_error" (func $call (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $call (i32.const 1) (i32.const 65536))))

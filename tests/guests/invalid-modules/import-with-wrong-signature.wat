;; expect: INVALID_MODULE
;; says: mentat.read_input
;; says: (i64, i64) -> i64
;; says: (i32, i32) -> i32
;; The right name with another type: both types are shown, the module's and the host's.
(module
  (import "mentat" "read_input" (func (param i64 i64) (result i64)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) i32.const 0))

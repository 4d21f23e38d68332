;; expect: INVALID_MODULE
;; says: process
;; says: _start
;; A library: neither `process` nor `_start`. The error names both, since either would do.
(module
  (memory (export "memory") 1)
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))

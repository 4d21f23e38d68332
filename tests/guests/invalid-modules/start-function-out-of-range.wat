;; expect: INVALID_MODULE
;; says: function
;; The start function is the first thing a host calls; this index names none.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) i32.const 0)
  (start 77))

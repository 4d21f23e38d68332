;; expect: TRAP
;; says: integer
;; A float that no integer can hold, converted the trapping way.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) (i32.trunc_f64_s (f64.const 1e300))))

;; expect: INVALID_MODULE
;; says: process
;; The right name on an instance, which cannot be called.
(component
  (instance $empty)
  (export "process" (instance $empty)))

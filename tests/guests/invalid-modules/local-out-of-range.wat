;; expect: INVALID_MODULE
;; says: unknown local
;; A read of a local that was never declared: a read of the host's stack, if believed.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) local.get 100000))

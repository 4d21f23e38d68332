;; expect: INVALID_MODULE
;; says: memory
;; No memory at all: no host call could read or write anything of the guest's.
(module
  (func (export "process") (result i32) i32.const 0))

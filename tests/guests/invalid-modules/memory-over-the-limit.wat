;; expect: INVALID_MODULE
;; says: memory 0
;; says: 16
;; limits: memory=16MB
;; A memory that starts with twice what the agent may have: it could never be instantiated, and is refused with the
;; limit before anything is mapped.
(module
  (memory (export "memory") 512)
  (func (export "process") (result i32) i32.const 0))

;; expect: INVALID_MODULE
;; says: memory
;; There is an export of the right name that is a global, and a memory of another name. A host that looks the
;; export up at the first call and unwraps it would panic then.
(module
  (memory (export "mem") 1)
  (global (export "memory") i32 (i32.const 0))
  (func (export "process") (result i32) i32.const 0))

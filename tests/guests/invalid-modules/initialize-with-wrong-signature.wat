;; expect: INVALID_MODULE
;; says: _initialize
;; `_initialize` is called before `process`, so its type matters as much. Found when loaded, not at the first call.
(module
  (memory (export "memory") 1)
  (func (export "_initialize") (result i32) i32.const 0)
  (func (export "process") (result i32) i32.const 0))

;; expect: INVALID_MODULE
;; says: unknown function
;; A call by an index that no function has: a jump to whatever lies behind the table of functions, if believed.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) call 4294967295 i32.const 0))

;; expect: STACK_OVERFLOW
;; says: dive
;; within_ms: 2000
;; The guest's stack has its own end, far before the host's. The error names the function.
(module
  (memory (export "memory") 1)
  (func $dive (param i32) (result i32)
    (i32.add (call $dive (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func (export "process") (result i32) (call $dive (i32.const 0))))

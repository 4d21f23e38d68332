;; expect: MEMORY_LIMIT
;; limits: memory=16MB
;; within_ms: 1000
;; Two core modules inside one component, with 10 MB each where 16 MB are allowed: the limit is of the execution.
(component
  (core module $other (memory 160))
  (core instance (instantiate $other))
  (core module $code
    (memory (export "memory") 160)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "process") (param i32 i32) (result i32) i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

;; expect: OUTPUT_TOO_LARGE
;; limits: output=1MB
;; within_ms: 1000
;; An answer one byte over its limit, all of it inside memory.
(component
  (core module $code
    (memory (export "memory") 20)
    (data (i32.const 0) "\00\00\00\00\00\00\00\00\01\00\10\00")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "process") (param i32 i32) (result i32) i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

;; expect: OUTPUT_TOO_LARGE
;; limits: output=1MB
;; within_ms: 1000
;; An answer of 60 MB where 1 MB is allowed, all of it inside memory. Wasmtime's own budget for one call is smaller
;; than this and ends the call first; the reason is the same, and must be called so.
(component
  (core module $code
    (memory (export "memory") 1000)
    (data (i32.const 0) "\00\00\00\00\00\00\00\00\00\87\93\03")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "process") (param i32 i32) (result i32) i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

;; expect: TRAP
;; says: out of bounds
;; within_ms: 500
;; The answer is a list of 1 GiB at an address near the end of memory: a range that is not there, checked before
;; anything is copied or room made for it.
(component
  (core module $code
    (memory (export "memory") 2)
    (data (i32.const 0) "\00\00\00\00\f0\ff\01\00\00\00\00\40")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "process") (param i32 i32) (result i32) i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

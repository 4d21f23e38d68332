;; expect: TRAP
;; An error text of bytes that are not UTF-8: no string of the component model, and so a trap.
(component
  (core module $code
    (memory (export "memory") 2)
    (data (i32.const 0) "\01\00\00\00\10\00\00\00\02\00\00\00")
    (data (i32.const 16) "\c3\28")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "process") (param i32 i32) (result i32) i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

;; expect: TRAP
;; input: some bytes
;; The guest's allocator answers with an address behind its memory, where the host is to put the input.
(component
  (core module $code
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 131068)
    (func (export "process") (param i32 i32) (result i32) i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

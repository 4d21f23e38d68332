;; expect: INVALID_MODULE
;; says: memory
;; limits: memory=16MB
;; A core module inside the component starts with more memory than the agent may have: refused like that of a plain
;; module, before anything is mapped.
(component
  (core module $code
    (memory (export "memory") 512)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "process") (param i32 i32) (result i32) i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

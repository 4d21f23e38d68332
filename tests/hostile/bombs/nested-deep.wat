;; expect: ok
;; within_ms: 2000
;; input: under a hundred shells
;; output: under a hundred shells
;; A hundred components, each inside the other, beside a good one (no deeper: the assembler has its own bound).
;; A reader that calls itself for each one needs a stack as deep as the attacker likes.
(component
  (component (component (component (component (component (component (component (component (component (component (component (component (component (component (component 
  (component (component (component (component (component (component (component (component (component (component (component (component (component (component (component 
  (component (component (component (component (component (component (component (component (component (component (component (component (component (component (component 
  (component (component (component (component (component (component (component (component (component (component (component (component (component (component (component 
  (component (component (component (component (component (component (component (component (component (component (component (component (component (component (component 
  (component (component (component (component (component (component (component (component (component (component (component (component (component (component (component 
  (component (component (component (component (component (component (component (component (component 
  )))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))
  (core module $code
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "process") (param i32 i32) (result i32)
      (i32.store (i32.const 4) (local.get 0))
      (i32.store (i32.const 8) (local.get 1))
      i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

;; expect: INVALID_MODULE
;; says: mentat:agent/log@2.0.0
;; says: 1.0.0
;; One of our own interfaces in a version to come: the error tells the version that there is.
(component
  (import "mentat:agent/log@2.0.0" (instance))
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

;; expect: INVALID_MODULE
;; says: acme:one/a@0.1.0
;; says: acme:two/b@0.2.0
;; says: wasi:nn/tensor@0.2.0
;; says: free-standing
;; says: wasi:cli/environment@0.3.0
;; Several at once, and of every kind that a component can import: all are listed.
(component
  (import "acme:one/a@0.1.0" (instance))
  (import "acme:two/b@0.2.0" (instance))
  (import "wasi:nn/tensor@0.2.0" (instance))
  (import "wasi:cli/environment@0.3.0" (instance))
  (import "free-standing" (func))
  (import "wasi:cli/stdin@0.2.0" (instance))
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

;; expect: ok
;; limits: fuel=100000000
;; Two functions that tail-call each other a million times: the stack does not grow.
(module
  (memory (export "memory") 1)
  (func $even (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
    (return_call $odd (i32.sub (local.get 0) (i32.const 1))))
  (func $odd (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
    (return_call $even (i32.sub (local.get 0) (i32.const 1))))
  (func (export "process") (result i32) (call $even (i32.const 1000000))))

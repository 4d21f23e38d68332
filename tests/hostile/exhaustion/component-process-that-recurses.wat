;; expect: STACK_OVERFLOW
;; within_ms: 2000
;; Recursion without end inside a component ends as in a plain module.
(component
  (core module $code
    (func $down (result i32) (i32.add (call $down) (i32.const 1)))
    (func (export "run") (result i32) (call $down)))
  (core instance $main (instantiate $code))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))

;; expect: TRAP
;; `run` answers 7, where a result has the cases 0 and 1.
(component
  (core module $code (func (export "run") (result i32) i32.const 7))
  (core instance $main (instantiate $code))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))

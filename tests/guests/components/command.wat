;; expect: ok
;; output:
;; The smallest WASI 0.2 command: exports `wasi:cli/run`, whose `run` succeeds.
(component
  (core module $code (func (export "run") (result i32) i32.const 0))
  (core instance $main (instantiate $code))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))

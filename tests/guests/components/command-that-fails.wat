;; expect: exit 1
;; `run` of a command answers an error, which says no more than that: exit code 1, as of any program that fails.
(component
  (core module $code (func (export "run") (result i32) i32.const 1))
  (core instance $main (instantiate $code))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.3") (export "run" (func $run))))

;; expect: FUEL_EXHAUSTED
;; limits: fuel=10000000
;; within_ms: 2000
;; A function to clean up with after `run` has answered (`post-return`), which loops: it is under the same budget,
;; though the answer is known by then.
(component
  (core module $code
    (func (export "run") (result i32) i32.const 0)
    (func (export "clean-up") (param i32) (loop (br 0))))
  (core instance $main (instantiate $code))
  (func $run (result (result)) (canon lift (core func $main "run") (post-return (core func $main "clean-up"))))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))

;; expect: ok
;; output: second
;; A second output replaces the first, and is not added to it.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "the firstsecond")
  (func (export "process") (result i32)
    (if (call $write_output (i32.const 0) (i32.const 9)) (then (return (i32.const 1))))
    (call $write_output (i32.const 9) (i32.const 6))))

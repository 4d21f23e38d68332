;; expect: ok
;; input: abc
;; output:
;; A memory of zero pages is a memory: asking the input's length works, and so does an empty output.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 0)
  (func (export "process") (result i32)
    (if (i32.ne (call $read_input (i32.const 0) (i32.const 0)) (i32.const 3)) (then (return (i32.const 1))))
    (call $write_output (i32.const 0) (i32.const 0))))

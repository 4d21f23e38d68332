;; expect: ok
;; output: answer
;; Zero is success.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "answer")
  (func (export "process") (result i32)
    (drop (call $write_output (i32.const 0) (i32.const 6)))
    i32.const 0))

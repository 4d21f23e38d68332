;; expect: exit -2147483648
;; output: answer
;; Any other value is the agent's own verdict, and still a successful call with its output. The smallest there is: its negation does not exist.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "answer")
  (func (export "process") (result i32)
    (drop (call $write_output (i32.const 0) (i32.const 6)))
    i32.const -2147483648))

;; expect: ok
;; limits: output=1MB
;; within_ms: 1000
;; Exactly the limit is allowed.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "process") (result i32) (call $write_output (i32.const 65536) (i32.const 1048576))))

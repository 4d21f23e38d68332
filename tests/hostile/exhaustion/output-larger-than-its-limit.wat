;; expect: OUTPUT_TOO_LARGE
;; says: 1
;; limits: output=1MB
;; within_ms: 1000
;; One byte more than the limit, in one call, all of it inside memory.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "process") (result i32) (call $write_output (i32.const 0) (i32.const 1048577))))

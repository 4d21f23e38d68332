;; expect: TRAP
;; says: write_output
;; within_ms: 1000
;; A length of 1 GiB where the memory has one page. A range outside memory traps, whatever its size: it is checked
;; before the output's limit, and before anybody reserves room for it.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $write_output (i32.const 0) (i32.const 1073741824))))

;; expect: TRAP
;; says: write_output
;; Length 0, one byte behind the end of memory: not inside, and so a trap, even if nothing would be read.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $write_output (i32.const 65537) (i32.const 0))))

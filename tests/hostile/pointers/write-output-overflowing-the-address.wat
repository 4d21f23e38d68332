;; expect: TRAP
;; says: write_output
;; Pointer and length add up to exactly 2^32, which is 0 in 32 bits.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $write_output (i32.const 0xffff0000) (i32.const 0x10000))))

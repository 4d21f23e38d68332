;; expect: TRAP
;; says: read_input
;; input: hello
;; Pointer and capacity add up to 2^32 + 4: in 32 bits that is 4, well inside memory.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $read_input (i32.const 0xfffffff0) (i32.const 20))))

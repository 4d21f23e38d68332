;; expect: TRAP
;; says: read_input
;; says: 4294967295
;; input: hello
;; A capacity of -1 is 4294967295 bytes: lengths are unsigned. Read as signed it would be smaller than the input and
;; pass as "too small".
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $read_input (i32.const 0) (i32.const -1))))

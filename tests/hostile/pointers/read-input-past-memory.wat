;; expect: TRAP
;; says: read_input
;; input: hello
;; A buffer that begins inside memory and ends one byte behind it. The input itself would fit: what is checked is the
;; buffer that the guest claims to have.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $read_input (i32.const 65530) (i32.const 7))))

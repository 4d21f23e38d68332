;; expect: ok
;; output:
;; An empty output replaces what was there, and may lie at the very end of memory.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (drop (call $write_output (i32.const 0) (i32.const 4)))
    (call $write_output (i32.const 65536) (i32.const 0))))

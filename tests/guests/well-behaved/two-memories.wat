;; expect: ok
;; output: from the second
;; Two memories, and a copy from one into the other.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory $first (export "memory") 1)
  (memory $second 1)
  (data (memory $second) (i32.const 0) "from the second")
  (func (export "process") (result i32)
    (memory.copy $first $second (i32.const 100) (i32.const 0) (i32.const 15))
    (call $write_output (i32.const 100) (i32.const 15))))

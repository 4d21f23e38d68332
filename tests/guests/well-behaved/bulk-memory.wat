;; expect: ok
;; output: abcabc--
;; `memory.init`, `memory.copy`, `memory.fill` and `data.drop`, as every newer compiler emits them.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data $text "abc")
  (func (export "process") (result i32)
    (memory.init $text (i32.const 0) (i32.const 0) (i32.const 3))
    (data.drop $text)
    (memory.copy (i32.const 3) (i32.const 0) (i32.const 3))
    (memory.fill (i32.const 6) (i32.const 45) (i32.const 2))
    (call $write_output (i32.const 0) (i32.const 8))))

;; expect: ok
;; input: abcdef
;; output: abcdef
;; Memory that grows between two host calls may move. A host that kept its address from the first call would write
;; the second to where the memory was.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (local $length i32)
    (local.set $length (call $read_input (i32.const 0) (i32.const 0)))
    (if (i32.eq (memory.grow (i32.const 900)) (i32.const -1)) (then (return (i32.const 1))))
    (drop (call $read_input (i32.const 58000000) (local.get $length)))
    (call $write_output (i32.const 58000000) (local.get $length))))

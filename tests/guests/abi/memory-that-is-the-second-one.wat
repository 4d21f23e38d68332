;; expect: ok
;; input: abc
;; output: abc
;; Two memories, of which the second is exported as `memory`: pointers mean that one. A host that takes memory 0
;; would read and write the wrong one.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory $other 1)
  (memory $mine (export "memory") 1)
  (func (export "process") (result i32)
    (drop (call $read_input (i32.const 0) (i32.const 3)))
    (if (i32.load $other (i32.const 0)) (then (return (i32.const 1))))
    (if (i32.eqz (i32.load $mine (i32.const 0))) (then (return (i32.const 2))))
    (call $write_output (i32.const 0) (i32.const 3))))

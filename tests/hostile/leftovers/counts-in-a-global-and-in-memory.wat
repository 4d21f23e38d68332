;; expect: ok
;; output: 11
;; Adds one to a global and to a cell of memory, and writes both. The second execution must see what the first saw:
;; a slot that is not reset, or a memory that keeps its pages, shows here as 22.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "0")
  (global $count (mut i32) (i32.const 48))
  (func (export "process") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1)))
    (i32.store8 (i32.const 1) (global.get $count))
    (call $write_output (i32.const 0) (i32.const 2))))

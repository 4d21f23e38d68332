;; expect: ok
;; output: 1
;; `process` writes how often `_initialize` was called before it: exactly once. Go traps without the call, and C++
;; would run its constructors twice with two.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (func (export "_initialize") (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
  (func (export "process") (result i32)
    (i32.store8 (i32.const 0) (i32.add (i32.const 48) (global.get $calls)))
    (call $write_output (i32.const 0) (i32.const 1))))

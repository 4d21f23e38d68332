;; expect: ok
;; output:
;; No input is an input of length 0. The very end of memory is a place where nothing can be copied to.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (if (call $read_input (i32.const 0) (i32.const 0)) (then (return (i32.const 1))))
    (if (call $read_input (i32.const 0) (i32.const 100)) (then (return (i32.const 2))))
    (call $read_input (i32.const 65536) (i32.const 0))))

;; expect: ok
;; input: The quick brown fox, 123!
;; output: THE QUICK BROWN FOX, 123!
;; A little computing between input and output.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (local $length i32) (local $at i32)
    (local.set $length (call $read_input (i32.const 0) (i32.const 65536)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $length)))
      (if (i32.lt_u (i32.sub (i32.load8_u (local.get $at)) (i32.const 97)) (i32.const 26))
        (then (i32.store8 (local.get $at) (i32.sub (i32.load8_u (local.get $at)) (i32.const 32)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
    (call $write_output (i32.const 0) (local.get $length))))

;; expect: ok
;; input: hello, wörld\n
;; output: hello, wörld\n
;; The smallest useful agent on the mentat ABI: asks for the length, makes room, reads, writes.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (local $length i32)
    (local.set $length (call $read_input (i32.const 0) (i32.const 0)))
    (if (i32.eq (i32.const -1) (memory.grow (i32.shr_u (i32.add (local.get $length) (i32.const 65535)) (i32.const 16))))
      (then (return (i32.const 1))))
    (drop (call $read_input (i32.const 65536) (local.get $length)))
    (call $write_output (i32.const 65536) (local.get $length))))

;; expect: ok
;; No error yet: length 0. After one: the length by (0, 0), nothing copied into too small a buffer, the text copied
;; into one that is large enough. A call that succeeds does not clear it.
(module
  (import "mentat" "end_stream" (func $end_stream (param i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (local $length i32)
    (if (call $last_error (i32.const 0) (i32.const 100)) (then (return (i32.const 1))))
    (drop (call $end_stream (i32.const 1)))
    (local.set $length (call $last_error (i32.const 0) (i32.const 0)))
    (if (i32.le_s (local.get $length) (i32.const 0)) (then (return (i32.const 2))))
    (drop (call $last_error (i32.const 0) (i32.sub (local.get $length) (i32.const 1))))
    (if (i32.load (i32.const 0)) (then (return (i32.const 3))))
    (drop (call $read_input (i32.const 0) (i32.const 0)))
    (if (i32.ne (call $last_error (i32.const 0) (local.get $length)) (local.get $length))
      (then (return (i32.const 4))))
    (i32.eqz (i32.load (i32.const 0)))))

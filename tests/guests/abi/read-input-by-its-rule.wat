;; expect: ok
;; input: hello
;; output: hello
;; The whole rule of `read_input`: (0, 0) asks the length; a capacity that is too small copies nothing and still
;; answers the length; a larger one copies just the input; it can be asked again.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (if (i32.ne (call $read_input (i32.const 0) (i32.const 0)) (i32.const 5)) (then (return (i32.const 1))))
    ;; One byte too small: the length, and not a byte copied.
    (if (i32.ne (call $read_input (i32.const 100) (i32.const 4)) (i32.const 5)) (then (return (i32.const 2))))
    (if (i32.load (i32.const 100)) (then (return (i32.const 3))))
    ;; Larger than needed: nothing behind the input is touched.
    (i32.store8 (i32.const 205) (i32.const 77))
    (if (i32.ne (call $read_input (i32.const 200) (i32.const 50)) (i32.const 5)) (then (return (i32.const 4))))
    (if (i32.ne (i32.load8_u (i32.const 205)) (i32.const 77)) (then (return (i32.const 5))))
    ;; Again, exactly.
    (if (i32.ne (call $read_input (i32.const 300) (i32.const 5)) (i32.const 5)) (then (return (i32.const 6))))
    (call $write_output (i32.const 300) (i32.const 5))))

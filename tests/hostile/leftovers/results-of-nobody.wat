;; expect: ok
;; output: \u0000\u0000\u0000\u0000
;; An execution that is given nothing finds no error text, no result, and the output as its own alone.
(module
  (import "mentat" "result_read" (func $result (param i32 i32 i32) (result i32)))
  (import "mentat" "last_error" (func $error (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (if (call $error (i32.const 100) (i32.const 1000)) (then (return (i32.const 1))))
    (if (i32.ne (call $result (i32.const 0) (i32.const 100) (i32.const 1000)) (i32.const -61))
      (then (return (i32.const 2))))
    (call $output (i32.const 100) (i32.const 4))))

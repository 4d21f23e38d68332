;; expect: ok
;; capability: env:KEY
;; env: KEY = what another execution was given
;; There is no result and no error text before the first call that makes one; then there are both.
(module
  (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
  (import "mentat" "invoke_capability" (func $invoke (param i32 i32 i32) (result i32)))
  (import "mentat" "result_read" (func $result (param i32 i32 i32) (result i32)))
  (import "mentat" "last_error" (func $error (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "env:KEY")
  (func (export "process") (result i32)
    (if (i32.ne (call $result (i32.const 0) (i32.const 100) (i32.const 1000)) (i32.const -61))
      (then (return (i32.const 1))))
    (if (i32.ne (call $result (i32.const 5) (i32.const 100) (i32.const 1000)) (i32.const -61))
      (then (return (i32.const 2))))
    (if (i32.load (i32.const 100)) (then (return (i32.const 3))))
    (if (i32.lt_s (call $invoke (call $request (i32.const 0) (i32.const 7)) (i32.const 0) (i32.const 0)) (i32.const 10))
      (then (return (i32.const 4))))
    (if (i32.lt_s (call $result (i32.const 0) (i32.const 100) (i32.const 1000)) (i32.const 10))
      (then (return (i32.const 5))))
    (drop (call $invoke (i32.const 1) (i32.const 0) (i32.const 0)))
    (if (i32.eqz (call $error (i32.const 100) (i32.const 1000))) (then (return (i32.const 6))))
    (i32.const 0)))

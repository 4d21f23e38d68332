;; expect: ok
;; output: there is no result to read
;; Before any call that makes a result there is none, whatever offset is asked for, the largest ones included:
;; NO_RESULT, -61, and `last_error` says it in words.
(module
  (import "mentat" "result_read" (func $result_read (param i32 i32 i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $refused (param $offset i32) (param $capacity i32) (result i32)
    (i32.eq (call $result_read (local.get $offset) (i32.const 0) (local.get $capacity)) (i32.const -61)))
  (func (export "process") (result i32)
    (if (i32.eqz (call $refused (i32.const 0) (i32.const 100))) (then (return (i32.const 1))))
    (if (i32.eqz (call $refused (i32.const 0) (i32.const 0))) (then (return (i32.const 2))))
    (if (i32.eqz (call $refused (i32.const 1000) (i32.const 100))) (then (return (i32.const 3))))
    (if (i32.eqz (call $refused (i32.const -1) (i32.const 65536))) (then (return (i32.const 4))))
    (call $write_output (i32.const 0) (call $last_error (i32.const 0) (i32.const 1000)))))

;; expect: ok
;; output: written at the start
;; logs: logged at the start
;; Host calls work from the start function: the memory is there already, though nobody holds the instance yet.
(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "written at the start")
  (data (i32.const 32) "logged at the start")
  (func $start
    (call $log (i32.const 2) (i32.const 32) (i32.const 19))
    (drop (call $write_output (i32.const 0) (i32.const 20))))
  (func (export "process") (result i32) i32.const 0)
  (start $start))

;; expect: exit -2
;; output: capability `network:https:example.com` is not allowed here; allow it with `--allow 'network:https:example.com'`
;; Without a manifest, what the user of the command line has not allowed is denied, and the text says how to allow it.
(module
  (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "network:https:example.com")
  (func (export "process") (result i32)
    (local $code i32)
    (local.set $code (call $request (i32.const 0) (i32.const 25)))
    (drop (call $write_output (i32.const 100) (call $last_error (i32.const 100) (i32.const 1000))))
    (local.get $code)))

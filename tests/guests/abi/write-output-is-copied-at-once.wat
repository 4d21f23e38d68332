;; expect: ok
;; output: kept
;; What the guest does to its buffer after the call does not change the output: the host copies during the call.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "kept")
  (func (export "process") (result i32)
    (drop (call $write_output (i32.const 0) (i32.const 4)))
    (i32.store (i32.const 0) (i32.const 0x21212121))
    i32.const 0))

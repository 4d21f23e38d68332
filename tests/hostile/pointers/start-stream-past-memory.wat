;; expect: TRAP
;; says: start_stream
;; 2 GiB at 2 GiB: the sum is 2^32.
(module
  (import "mentat" "start_stream" (func $call (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $call (i32.const 0x80000000) (i32.const 0x80000000))))

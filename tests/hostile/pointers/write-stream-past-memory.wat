;; expect: TRAP
;; says: write_stream
;; A chunk that ends one byte behind memory.
(module
  (import "mentat" "write_stream" (func $call (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $call (i32.const 1) (i32.const 65535) (i32.const 2))))

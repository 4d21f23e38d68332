;; expect: TRAP
;; says: write_output
;; One byte too long: the byte behind the memory would be the host's, or the next execution's.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $write_output (i32.const 65535) (i32.const 2))))

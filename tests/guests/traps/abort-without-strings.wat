;; expect: TRAP
;; says: abort
;; says: 4294967295
;; Null pointers, as AssemblyScript passes them where there is no message, and a line of -1.
(module
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (call $abort (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0))
    i32.const 0))

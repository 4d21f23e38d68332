;; expect: TRAP
;; says: invoke_capability
;; Arguments at 2 GiB, where pointers read as signed change their sign in the middle.
(module
  (import "mentat" "invoke_capability" (func $call (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $call (i32.const 1) (i32.const 0x7fffffff) (i32.const 2))))

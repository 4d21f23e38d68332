;; expect: TRAP
;; says: abort
;; Pointers that lie behind memory, and so near its beginning that the length before them would lie at -2. The guest
;; gave up either way; what cannot be read is left out.
(module
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (call $abort (i32.const -1) (i32.const 2) (i32.const 1) (i32.const 1))
    i32.const 0))

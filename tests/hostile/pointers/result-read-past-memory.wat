;; expect: TRAP
;; says: result_read
;; A buffer behind memory traps although there is no result to copy: ranges are checked before anything else, so
;; that a wrong pointer shows on the first run and not on the first result.
(module
  (import "mentat" "result_read" (func $result_read (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (call $result_read (i32.const 0) (i32.const 65536) (i32.const 1))))

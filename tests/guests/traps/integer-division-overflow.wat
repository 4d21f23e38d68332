;; expect: TRAP
;; says: integer overflow
;; The smallest integer divided by -1: the processor raises the same signal as for zero.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) (i32.div_s (i32.const 0x80000000) (i32.const -1))))

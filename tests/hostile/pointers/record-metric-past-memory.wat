;; expect: TRAP
;; says: record_metric
;; An empty name behind memory.
(module
  (import "mentat" "record_metric" (func $call (param i32 i32 f64) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $call (i32.const 70000) (i32.const 0) (f64.const 1))))

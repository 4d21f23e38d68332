;; expect: TRAP
;; says: request_capability
;; One byte more than the memory has. Ranges are checked in calls that are not offered yet as well.
(module
  (import "mentat" "request_capability" (func $call (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $call (i32.const 0) (i32.const 65537))))

;; expect: TRAP
;; says: log
;; logs: before
;; A log line that ends behind memory. The line before it is in the log: logs are kept when the guest traps, since
;; then they are needed most.
(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "before")
  (func (export "process") (result i32)
    (call $log (i32.const 2) (i32.const 0) (i32.const 6))
    (call $log (i32.const 2) (i32.const 65000) (i32.const 1000))
    i32.const 0))

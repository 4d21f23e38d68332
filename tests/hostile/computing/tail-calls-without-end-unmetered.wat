;; expect: TIMEOUT
;; limits: metering=epoch timeout_ms=300
;; within_ms: 1000
;; The same for epochs, through a table, where the callee is not known.
(module
  (type $next (func (result i32)))
  (memory (export "memory") 1)
  (table 1 funcref)
  (elem (i32.const 0) func $again)
  (func $again (type $next) (return_call_indirect (type $next) (i32.const 0)))
  (func (export "process") (result i32) (call $again)))

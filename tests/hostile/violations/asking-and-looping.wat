;; expect: SECURITY_VIOLATION
;; says: `env:OTHER`
;; limits: timeout_ms=20000 metering=epoch
;; within_ms: 1000
;; on_violation: terminate
;; Asks for what is not listed, and would loop for ever after that.
(module
  (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "env:OTHER")
  (func (export "process") (result i32)
    (drop (call $request (i32.const 0) (i32.const 9)))
    (loop (br 0))
    (i32.const 0)))

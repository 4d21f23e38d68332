;; expect: TIMEOUT
;; limits: metering=epoch timeout_ms=300
;; within_ms: 1000
;; The same where nothing is counted: the wall clock must cover instantiation as well.
(module
  (memory (export "memory") 1)
  (func $start (loop (br 0)))
  (func (export "process") (result i32) i32.const 0)
  (start $start))

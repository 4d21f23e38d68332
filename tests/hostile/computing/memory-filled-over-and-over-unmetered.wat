;; expect: TIMEOUT
;; limits: timeout_ms=300 metering=epoch
;; within_ms: 1500
;; The same where nothing is counted: between two fills the guest must come back, or nobody could look at the clock.
(module
  (memory (export "memory") 1024)
  (func (export "process") (result i32)
    (loop
      (memory.fill (i32.const 0) (i32.const 170) (i32.const 67108864))
      (br 0))
    unreachable))

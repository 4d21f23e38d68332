;; expect: FUEL_EXHAUSTED
;; limits: fuel=10000000
;; within_ms: 3000
;; Sixty megabytes of output in a loop. The last call wins, so the output never gets over its limit, but each call is
;; a copy of 60 MB: the copying is paid for in fuel.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1000)
  (func (export "process") (result i32)
    (loop (br_if 0 (i32.eqz (call $write_output (i32.const 0) (i32.const 60000000)))))
    i32.const 0))

;; expect: FUEL_EXHAUSTED
;; limits: fuel=20000
;; within_ms: 1000
;; Nothing but host calls, in a loop: crossing the boundary must not refill or escape the count.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (loop (drop (call $read_input (i32.const 0) (i32.const 0))) (br 0))
    unreachable))

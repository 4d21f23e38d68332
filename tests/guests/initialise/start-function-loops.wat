;; expect: FUEL_EXHAUSTED
;; limits: fuel=10000000
;; within_ms: 2000
;; A start function runs inside instantiation, before any call that a host would meter. It must find the fuel set.
(module
  (memory (export "memory") 1)
  (func $start (loop (br 0)))
  (func (export "process") (result i32) i32.const 0)
  (start $start))

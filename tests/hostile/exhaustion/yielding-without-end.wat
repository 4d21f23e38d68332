;; expect: FUEL_EXHAUSTED
;; limits: fuel=1000000
;; within_ms: 3000
;; `sched_yield` in a loop: a host call that does nothing, and costs the host more than the guest.
(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (loop (drop (call $sched_yield)) (br 0))))

;; expect: TIMEOUT
;; limits: timeout_ms=500
;; within_ms: 1500
;; The most randomness of one call, again and again: a few units of fuel for milliseconds of the host's work. The
;; wall clock ends it, since the guest comes back between two calls.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 1000)
  (func (export "_start") (loop (drop (call $random_get (i32.const 0) (i32.const 16000000))) (br 0))))

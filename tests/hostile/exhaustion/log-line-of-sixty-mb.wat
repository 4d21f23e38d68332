;; expect: ok
;; logs: xxxxxxxx
;; logs: bytes more
;; within_ms: 1000
;; One line of 60 MB: cut to its bound before it is decoded, escaped or kept, and said to be cut.
(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1000)
  (func (export "process") (result i32)
    (memory.fill (i32.const 0) (i32.const 120) (i32.const 60000000))
    (call $log (i32.const 0) (i32.const 0) (i32.const 60000000))
    i32.const 0))

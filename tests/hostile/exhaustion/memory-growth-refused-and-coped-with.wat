;; expect: ok
;; output: full
;; limits: memory=16MB
;; within_ms: 2000
;; The same growth by a guest that takes -1 for an answer and goes on: no error, since nothing went wrong.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "full")
  (func (export "process") (result i32)
    (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    ;; The last page is really there: 256 pages are 16 MB.
    (if (i32.ne (memory.size) (i32.const 256)) (then (return (i32.const 1))))
    (i32.store (i32.const 16777212) (i32.const 7))
    (if (i32.ne (i32.load (i32.const 16777212)) (i32.const 7)) (then (return (i32.const 2))))
    (call $write_output (i32.const 0) (i32.const 4))))

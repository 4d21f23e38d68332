;; expect: ok
;; within_ms: 500
;; A clock and a descriptor that is not open: `badf` (8), and what was made for the clock is given back. Then the
;; clock of the process's CPU time: `inval` (28). A thousand times, so that what is not given back adds up.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (local $left i32)
    (local.set $left (i32.const 1000))
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (loop
      (i32.store8 (i32.const 56) (i32.const 1))
      (i32.store (i32.const 64) (i32.const 99))
      (if (i32.ne (call $poll_oneoff (i32.const 0) (i32.const 96) (i32.const 2) (i32.const 200)) (i32.const 8))
        (then (return (i32.const 1))))
      (i32.store8 (i32.const 56) (i32.const 0))
      (i32.store (i32.const 64) (i32.const 2))
      (if (i32.ne (call $poll_oneoff (i32.const 0) (i32.const 96) (i32.const 2) (i32.const 200)) (i32.const 28))
        (then (return (i32.const 2))))
      (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    i32.const 0))

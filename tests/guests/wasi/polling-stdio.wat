;; expect: ok
;; input: x
;; within_ms: 500
;; stdin to read and stdout to write are both ready at once: two events. A loop of `poll` and `read`, as event
;; libraries make it, does not hang.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store8 (i32.const 8) (i32.const 1))    ;; reading from
    (i32.store (i32.const 16) (i32.const 0))    ;; stdin
    (i32.store8 (i32.const 56) (i32.const 2))   ;; writing to
    (i32.store (i32.const 64) (i32.const 1))    ;; stdout
    (if (call $poll_oneoff (i32.const 0) (i32.const 96) (i32.const 2) (i32.const 200))
      (then (call $proc_exit (i32.const 1))))
    (if (i32.ne (i32.load (i32.const 200)) (i32.const 2)) (then (call $proc_exit (i32.const 2))))))

;; expect: ok
;; output: done
;; limits: log=64KB
;; within_ms: 3000
;; Sixteen thousand lines of 64 KB each, over 1 GiB in all. Lines over the limit are counted and dropped, and the
;; agent goes on: a chatty agent is no failed one.
(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 65536) "done")
  (func (export "process") (result i32) (local $left i32)
    (local.set $left (i32.const 16384))
    (memory.fill (i32.const 0) (i32.const 120) (i32.const 65536))
    (loop
      (call $log (i32.const 2) (i32.const 0) (i32.const 65536))
      (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (call $write_output (i32.const 65536) (i32.const 4))))

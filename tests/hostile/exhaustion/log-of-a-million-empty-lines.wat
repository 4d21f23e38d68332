;; expect: ok
;; within_ms: 3000
;; A million lines of no bytes: a limit of bytes alone would keep them all, at a hundred bytes of host memory each.
(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (local $left i32)
    (local.set $left (i32.const 1000000))
    (loop
      (call $log (i32.const 4) (i32.const 0) (i32.const 0))
      (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    i32.const 0))

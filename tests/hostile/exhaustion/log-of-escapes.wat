;; expect: ok
;; logs: \u{1b}\u{1b}\u{1b}
;; limits: log=64KB
;; within_ms: 1000
;; Lines of nothing but escape characters, each of which becomes six when it is escaped.
(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (local $left i32)
    (memory.fill (i32.const 0) (i32.const 27) (i32.const 16384))
    (local.set $left (i32.const 1000))
    (loop
      (call $log (i32.const 2) (i32.const 0) (i32.const 16384))
      (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    i32.const 0))

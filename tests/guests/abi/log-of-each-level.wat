;; expect: ok
;; logs: level0
;; logs: level1
;; logs: level2
;; logs: level3
;; logs: level4
;; logs: level5
;; logs: level6
;; Each level, and two that are none, 2147483647 and -1: those are traces. The call never fails.
(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "level0level1level2level3level4level5level6")
  (func (export "process") (result i32)
    (call $log (i32.const 0) (i32.const 0) (i32.const 6))
    (call $log (i32.const 1) (i32.const 6) (i32.const 6))
    (call $log (i32.const 2) (i32.const 12) (i32.const 6))
    (call $log (i32.const 3) (i32.const 18) (i32.const 6))
    (call $log (i32.const 4) (i32.const 24) (i32.const 6))
    (call $log (i32.const 2147483647) (i32.const 30) (i32.const 6))
    (call $log (i32.const -1) (i32.const 36) (i32.const 6))
    i32.const 0))

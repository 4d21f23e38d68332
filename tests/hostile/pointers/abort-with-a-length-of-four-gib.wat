;; expect: TRAP
;; says: \u{1b}[31m
;; within_ms: 1000
;; Strings whose lengths are 2^32-1, one at the start and one at the end of memory: read at most up to their bound,
;; escaped, and not at all where they do not lie inside memory.
(module
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\ff\ff\ff\ff\1b\00[\003\001\00m\00")
  (data (i32.const 65528) "\ff\ff\ff\ff!\00!\00")
  (func (export "process") (result i32)
    (call $abort (i32.const 4) (i32.const 65532) (i32.const 1) (i32.const 1))
    i32.const 0))

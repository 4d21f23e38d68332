;; expect: TRAP
;; says: red\u{1b}[31m
;; A function whose name would colour the operator's terminal. Names in a backtrace are the guest's own words.
(module
  (memory (export "memory") 1)
  (func $inner (@name "red\1b[31m") unreachable)
  (func (export "process") (result i32) (call $inner) i32.const 0))

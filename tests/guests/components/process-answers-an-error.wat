;; expect: exit 1
;; output:
;; logs: not a number \u{1b}[31m
;; `err("…")` is the agent's own verdict: exit code 1, no output, and the text as the last log line, escaped.
(component
  (core module $code
    (memory (export "memory") 2)
    (data (i32.const 0) "\01\00\00\00\10\00\00\00\12\00\00\00")
    (data (i32.const 16) "not a number \1b[31m")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "process") (param i32 i32) (result i32) i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

;; expect: ok
;; logs: red \u{1b}[31m bell \u{7}
;; logs: forged\u{a}ERROR
;; logs: reversed \u{202e}exe
;; logs: broken � here
;; Terminal escapes, a forged second line, a reversed reading order, and bytes that are not UTF-8: none of it reaches
;; the operator's screen as it is.
(module
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "red \1b[31m bell \07")
  (data (i32.const 100) "forged\nERROR")
  (data (i32.const 200) "reversed \e2\80\aeexe")
  (data (i32.const 300) "broken \ff here")
  (func (export "process") (result i32)
    (call $log (i32.const 2) (i32.const 0) (i32.const 17))
    (call $log (i32.const 2) (i32.const 100) (i32.const 12))
    (call $log (i32.const 2) (i32.const 200) (i32.const 15))
    (call $log (i32.const 2) (i32.const 300) (i32.const 13))
    i32.const 0))

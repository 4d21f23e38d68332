;; expect: INVALID_MODULE
;; says: evil\u{1b}[31m\u{7}
;; says: gnp\u{202e}exe.\u{200b}
;; says: line\u{a}ERROR: all is well
;; Names that would colour the operator's terminal, ring its bell, reverse the reading order, hide, or forge a
;; line of the log. They come out escaped, on every surface.
(module
  (import "evil\1b[31m\07" "f" (func))
  (import "mentat" "gnp\u{202e}exe.\u{200b}" (func))
  (import "mentat" "line\nERROR: all is well" (func))
  (memory (export "memory") 1)
  (func (export "process") (result i32) i32.const 0))

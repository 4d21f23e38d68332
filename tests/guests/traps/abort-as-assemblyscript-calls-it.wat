;; expect: TRAP
;; says: input is no number ä
;; says: assembly/index.ts:12:7
;; `env.abort(message, file, line, column)`: two strings in UTF-16, with their length in bytes in the four bytes
;; before them. The message becomes the trap's, with the place.
(module
  (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 12) "\2c\00\00\00i\00n\00p\00u\00t\00 \00i\00s\00 \00n\00o\00 \00n\00u\00m\00b\00e\00r\00 \00\e4\00!\00")
  (data (i32.const 108) "\22\00\00\00a\00s\00s\00e\00m\00b\00l\00y\00/\00i\00n\00d\00e\00x\00.\00t\00s\00")
  (func (export "process") (result i32)
    (call $abort (i32.const 16) (i32.const 112) (i32.const 12) (i32.const 7))
    i32.const 0))

;; expect: ok
;; A subscription whose tag is 7, where there are 0, 1 and 2: `inval` (28). A host that used the tag as an index would
;; read past its table.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (i32.store8 (i32.const 8) (i32.const 7))
    (i32.ne (call $poll_oneoff (i32.const 0) (i32.const 96) (i32.const 1) (i32.const 200)) (i32.const 28))))

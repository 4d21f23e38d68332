;; expect: TRAP
;; says: upload_media
;; The content is fine, the media type lies behind memory: the second range is checked like the first.
(module
  (import "mentat" "upload_media" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $call (i32.const 0) (i32.const 4) (i32.const 65536) (i32.const 1))))

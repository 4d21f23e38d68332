;; expect: TRAP
;; says: download_media
;; The last byte of the address space.
(module
  (import "mentat" "download_media" (func $call (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (call $call (i32.const -1) (i32.const 1))))

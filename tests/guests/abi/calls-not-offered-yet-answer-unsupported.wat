;; expect: ok
;; output: not supported here: this runtime does not offer the call yet
;; Every call for media is linked, so that a module built today runs tomorrow, and answers UNSUPPORTED, -38. The exit
;; code is the number of the call that did not; the output is `last_error`.
(module
  (import "mentat" "download_media" (func $download (param i32 i32) (result i32)))
  (import "mentat" "upload_media" (func $upload (param i32 i32 i32 i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (if (i32.ne (call $download (i32.const 0) (i32.const 0)) (i32.const -38)) (then (return (i32.const 4))))
    (if (i32.ne (call $upload (i32.const 0) (i32.const 65536) (i32.const 65536) (i32.const 0)) (i32.const -38))
      (then (return (i32.const 5))))
    (call $write_output (i32.const 100) (call $last_error (i32.const 100) (i32.const 1000)))))

;; expect: ok
;; output: there is no media store here; the operator of a server has one in its data directory or names one by `media.dir` or `media.bucket`, a user of `mentat run` by `--media DIR`
;; Where there is no media store, the calls for media are there and answer UNSUPPORTED, -38. The exit code is the number of
;; the call that did not; the output is `last_error`.
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

;; expect: ok
;; within_ms: 500
;; A path as long as the memory: `nametoolong` (37), before any of it is copied.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1000)
  (func (export "process") (result i32)
    (i32.ne (i32.const 37)
      (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 60000000) (i32.const 0)
        (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))))

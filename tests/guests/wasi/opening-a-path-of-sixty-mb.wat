;; expect: ok
;; within_ms: 500
;; A path as long as the memory. Wasmtime copies paths before it looks at the directory; the host's budget for one
;; call answers `nomem` (48) instead.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1000)
  (func (export "process") (result i32)
    (i32.ne (i32.const 48)
      (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 60000000) (i32.const 0)
        (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))))

;; expect: ok
;; within_ms: 500
;; Waiting for nothing would be waiting for ever; Wasmtime answers `inval` (28).
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (i32.ne (call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 28))))

;; expect: SECURITY_VIOLATION
;; says: `filesystem:write:/data/x`
;; on_violation: terminate
;; capability: filesystem:read:/data
;; mount: /data readwrite
;; gone: /data/x
;; The same, with an answer at once: it is no answer.
(module
  (import "mentat" "write_output" (func $output (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x")
  (func (export "process") (result i32)
    (drop (call $output (i32.const 0) (i32.const 1)))
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1) (i64.const 64)
      (i64.const 0) (i32.const 0) (i32.const 16)))
    (i32.const 0)))

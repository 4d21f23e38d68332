;; expect: SECURITY_VIOLATION
;; says: `filesystem:write:/data/x`
;; limits: timeout_ms=20000 metering=epoch
;; within_ms: 1000
;; on_violation: terminate
;; capability: filesystem:read:/data
;; mount: /data readwrite
;; gone: /data/x
;; Makes a file where it may only read, does not look at the error, and loops for ever: it is ended at its next breath.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x")
  (func (export "process") (result i32)
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1) (i64.const 64)
      (i64.const 0) (i32.const 0) (i32.const 16)))
    (loop (br 0))
    (i32.const 0)))

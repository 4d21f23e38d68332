;; expect: INVALID_MODULE
;; says: env.printf
;; says: mentat.fork
;; says: wasi_snapshot_preview1.fd_chmod
;; says: gpu.device
;; says: js.table
;; says: js.error
;; Several at once, of every kind that can be imported: all are listed, so that the author fixes them in one go.
;; The supported import between them is not complained about.
(module
  (import "env" "printf" (func (param i32 i32) (result i32)))
  (import "mentat" "fork" (func (result i32)))
  (import "mentat" "log" (func (param i32 i32 i32)))
  (import "wasi_snapshot_preview1" "fd_chmod" (func (param i32 i32) (result i32)))
  (import "gpu" "device" (global i32))
  (import "js" "table" (table 1 funcref))
  (import "js" "error" (tag (param i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) i32.const 0))

;; expect: INVALID_MODULE
;; says: wasi_snapshot_preview2.fd_write
;; A module name that nobody offers, one letter from one that is offered: no guessing, and the error tells which
;; modules there are.
;; says: wasi_snapshot_preview1
(module
  (import "wasi_snapshot_preview2" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) i32.const 0))

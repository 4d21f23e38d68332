;; expect: ok
;; Nothing of the service's own environment or command line reaches a guest: no variables, and no arguments beyond a
;; program's own name for commands; this module on the mentat ABI has none at all.
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (i64.store (i32.const 0) (i64.const -1))
    (if (call $environ_sizes (i32.const 0) (i32.const 4)) (then (return (i32.const 1))))
    (if (i64.ne (i64.load (i32.const 0)) (i64.const 0)) (then (return (i32.const 2))))
    (if (call $environ (i32.const 100) (i32.const 200)) (then (return (i32.const 3))))
    (if (i32.load (i32.const 200)) (then (return (i32.const 4))))
    (i64.store (i32.const 0) (i64.const -1))
    (if (call $args_sizes (i32.const 0) (i32.const 4)) (then (return (i32.const 5))))
    (if (i64.ne (i64.load (i32.const 0)) (i64.const 0)) (then (return (i32.const 6))))
    i32.const 0))

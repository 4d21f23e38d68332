;; expect: TRAP
;; within_ms: 500
;; 2^64-1 random bytes: lengths are 64 bits wide in WASI 0.2, and the host would make the list in its own memory.
(component
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (core module $libc
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  (core instance $libc (instantiate $libc))
  (core func $get (canon lower (func $random "get-random-bytes")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $code
    (import "host" "get" (func $get (param i64 i32)))
    (func (export "run") (result i32) (call $get (i64.const -1) (i32.const 0)) i32.const 0))
  (core instance $main (instantiate $code (with "host" (instance (export "get" (func $get))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))

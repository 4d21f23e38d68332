;; expect: ok
;; The clocks work: the real time is after 2024, the monotonic one does not go back. The clocks of the process's CPU
;; time are not offered (Wasmtime answers `badf`, 8): they would tell how busy the neighbours are. A clock that does
;; not exist is `inval` to some hosts and a trap to others, and is not asked for here.
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_res_get" (func $resolution (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (if (call $time (i32.const 0) (i64.const 1) (i32.const 0)) (then (return (i32.const 1))))
    (if (i64.lt_u (i64.load (i32.const 0)) (i64.const 1704067200000000000)) (then (return (i32.const 2))))
    (if (call $time (i32.const 1) (i64.const 1) (i32.const 8)) (then (return (i32.const 3))))
    (if (call $time (i32.const 1) (i64.const 1) (i32.const 16)) (then (return (i32.const 4))))
    (if (i64.lt_u (i64.load (i32.const 16)) (i64.load (i32.const 8))) (then (return (i32.const 5))))
    (if (call $resolution (i32.const 1) (i32.const 24)) (then (return (i32.const 6))))
    (if (i64.eqz (i64.load (i32.const 24))) (then (return (i32.const 7))))
    (i32.ne (call $time (i32.const 2) (i64.const 1) (i32.const 32)) (i32.const 8))))

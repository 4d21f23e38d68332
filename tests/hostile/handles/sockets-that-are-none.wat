;; expect: ok
;; The calls for sockets are there and answer for what the descriptors are: `notsock` (57) for the standard streams,
;; `badf` (8) for none. There is no way to make a socket.
(module
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (if (i32.ne (call $accept (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 57))
      (then (return (i32.const 1))))
    (if (i32.ne (call $recv (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 12))
          (i32.const 57))
      (then (return (i32.const 2))))
    (if (i32.ne (call $send (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)) (i32.const 57))
      (then (return (i32.const 3))))
    (if (i32.ne (call $shutdown (i32.const 0) (i32.const 3)) (i32.const 57)) (then (return (i32.const 4))))
    (if (i32.ne (call $accept (i32.const 3) (i32.const 0) (i32.const 0)) (i32.const 8))
      (then (return (i32.const 5))))
    (i32.ne (call $shutdown (i32.const -1) (i32.const 3)) (i32.const 8))))

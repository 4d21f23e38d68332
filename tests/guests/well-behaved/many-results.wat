;; expect: ok
;; Functions and blocks with several results: 47 is 4 tens and 7.
(module
  (memory (export "memory") 1)
  (func $divide (param i32 i32) (result i32 i32)
    (i32.div_u (local.get 0) (local.get 1))
    (i32.rem_u (local.get 0) (local.get 1)))
  (func (export "process") (result i32) (local $tens i32) (local $ones i32)
    (call $divide (i32.const 47) (i32.const 10))
    (local.set $ones)
    (local.set $tens)
    (block (result i32 i32) (local.get $tens) (local.get $ones))
    (i32.ne (i32.const 7))
    (if (param i32) (then (i32.ne (i32.const 4)) (if (then (return (i32.const 1)))) (return (i32.const 2)))
      (else (i32.ne (i32.const 4)) (if (then (return (i32.const 3))))))
    i32.const 0))

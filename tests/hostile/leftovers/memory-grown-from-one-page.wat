;; expect: ok
;; limits: memory=32MB
;; Begins with one page and grows to 256, which must all be zero, and fills them. The slot is as small again for the next
;; guest, and as empty as if it had never been larger.
(module
  (memory (export "memory") 1 256)
  (func (export "process") (result i32) (local $at i32)
    (if (i32.ne (memory.size) (i32.const 1)) (then (return (i32.const 1))))
    (if (i32.ne (memory.grow (i32.const 255)) (i32.const 1)) (then (return (i32.const 2))))
    (loop $next
      (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (return (i32.const 3))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 0x1000000))))
    (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 0x1000000))
    (i32.const 0)))

;; expect: ok
;; limits: memory=32MB
;; Three memories, each of which lies where some other guest's lay before: empty to their ends, then filled.
(module
  (memory $a (export "memory") 4)
  (memory $b 8)
  (memory $c 1)
  (func $filled (param $at i32) (result i32)
    (i32.or (i32.load $a (local.get $at))
      (i32.or (i32.load $b (local.get $at)) (i32.load $b (i32.add (local.get $at) (i32.const 0x40000))))))
  (func (export "process") (result i32) (local $at i32)
    (loop $next
      (if (call $filled (local.get $at)) (then (return (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 0x40000))))
    (local.set $at (i32.const 0))
    (loop $next
      (if (i32.load $c (local.get $at)) (then (return (i32.const 2))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 0x10000))))
    (memory.fill $a (i32.const 0) (i32.const 0x5a) (i32.const 0x40000))
    (memory.fill $b (i32.const 0) (i32.const 0x5a) (i32.const 0x80000))
    (memory.fill $c (i32.const 0) (i32.const 0x5a) (i32.const 0x10000))
    (i32.const 0)))

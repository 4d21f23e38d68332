;; expect: ok
;; limits: memory=32MB
;; within_ms: 2000
;; Looks at every page of a memory of 16 MB and of 16 MB more that it grows, which must be zero, then fills all
;; of it. In the second execution the first one's bytes must be gone, in grown pages and in table elements as well.
(module
  (type $nothing (func))
  (memory (export "memory") 256)
  (table 100 funcref)
  (elem declare func $mark)
  (func $mark (type $nothing))
  (func (export "process") (result i32) (local $at i32)
    (if (i32.eq (memory.grow (i32.const 256)) (i32.const -1)) (then (return (i32.const 1))))
    (loop
      (if (i32.load (local.get $at)) (then (return (i32.const 2))))
      (if (i32.load offset=4092 (local.get $at)) (then (return (i32.const 3))))
      (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const 33554432))))
    (memory.fill (i32.const 0) (i32.const 165) (i32.const 33554432))
    (if (i32.eqz (ref.is_null (table.get (i32.const 99)))) (then (return (i32.const 4))))
    (table.fill (i32.const 0) (ref.func $mark) (i32.const 100))
    i32.const 0))

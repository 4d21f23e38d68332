;; expect: ok
;; A table as long as the one of `tables.wat` has grown to: null from its first element to its last.
(module
  (memory (export "memory") 1)
  (table $functions 950 5000 funcref)
  (elem declare func $mark)
  (func $mark)
  (func (export "process") (result i32) (local $at i32)
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $functions (local.get $at)))) (then (return (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 950))))
    (table.fill $functions (i32.const 0) (ref.func $mark) (i32.const 950))
    (i32.const 0)))

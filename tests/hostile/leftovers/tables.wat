;; expect: ok
;; Tables of functions and of references from outside: null where nothing was put, as long as they begin, and then filled,
;; grown and set. A function of another guest's would be a call into its code.
(module
  (type $nothing (func (result i32)))
  (memory (export "memory") 1)
  (table $functions 50 5000 funcref)
  (table $references 20 5000 externref)
  (elem declare func $mark)
  (elem (table $functions) (i32.const 7) func $mark)
  (func $mark (type $nothing) (i32.const 7))
  (func (export "process") (result i32) (local $at i32)
    (if (i32.ne (table.size $functions) (i32.const 50)) (then (return (i32.const 1))))
    (if (i32.ne (table.size $references) (i32.const 20)) (then (return (i32.const 2))))
    (loop $next
      (if (i32.eq (ref.is_null (table.get $functions (local.get $at))) (i32.eq (local.get $at) (i32.const 7)))
        (then (return (i32.const 3))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 50))))
    (if (i32.ne (call_indirect $functions (type $nothing) (i32.const 7)) (i32.const 7)) (then (return (i32.const 4))))
    (local.set $at (i32.const 0))
    (loop $next
      (if (i32.eqz (ref.is_null (table.get $references (local.get $at)))) (then (return (i32.const 5))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 20))))
    (drop (table.grow $functions (ref.func $mark) (i32.const 900)))
    (drop (table.grow $references (ref.null extern) (i32.const 900)))
    (table.fill $functions (i32.const 0) (ref.func $mark) (i32.const 950))
    (i32.const 0)))

;; expect: ok
;; Reference types: a table filled, read, grown and called through, and a typed reference called.
(module
  (type $number (func (result i32)))
  (memory (export "memory") 1)
  (table $functions 1 10 funcref)
  (elem declare func $seven)
  (func $seven (type $number) (i32.const 7))
  (func (export "process") (result i32)
    (if (i32.ne (table.grow $functions (ref.func $seven) (i32.const 3)) (i32.const 1)) (then (return (i32.const 1))))
    (if (ref.is_null (table.get $functions (i32.const 3))) (then (return (i32.const 2))))
    (table.set $functions (i32.const 0) (table.get $functions (i32.const 3)))
    (if (i32.ne (call_indirect $functions (type $number) (i32.const 0)) (i32.const 7)) (then (return (i32.const 3))))
    (i32.ne (call_ref $number (ref.func $seven)) (i32.const 7))))

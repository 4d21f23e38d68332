;; expect: ok
;; limits: fuel=100000000
;; Structures of languages with a garbage collector: made, kept in a list, and summed up.
(module
  (rec (type $cell (struct (field (ref null $cell)) (field i32))))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (local $list (ref null $cell)) (local $left i32) (local $sum i32)
    (local.set $left (i32.const 1000))
    (loop
      (local.set $list (struct.new $cell (local.get $list) (local.get $left)))
      (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (loop
      (local.set $sum (i32.add (local.get $sum) (struct.get $cell 1 (local.get $list))))
      (br_if 0 (i32.eqz (ref.is_null (local.tee $list (struct.get $cell 0 (local.get $list)))))))
    (i32.ne (local.get $sum) (i32.const 500500))))

;; expect: ok
;; Structures and arrays on the garbage-collected heap begin as zero, and are filled.
(module
  (type $numbers (array (mut i64)))
  (type $node (struct (field (mut i64)) (field (mut (ref null $node)))))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (local $all (ref null $numbers)) (local $node (ref null $node)) (local $at i32)
    (local.set $all (array.new_default $numbers (i32.const 10000)))
    (loop $next
      (if (i64.ne (array.get $numbers (local.get $all) (local.get $at)) (i64.const 0)) (then (return (i32.const 1))))
      (array.set $numbers (local.get $all) (local.get $at) (i64.const -1))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 10000))))
    (local.set $node (struct.new_default $node))
    (if (i64.ne (struct.get $node 0 (local.get $node)) (i64.const 0)) (then (return (i32.const 2))))
    (struct.set $node 0 (local.get $node) (i64.const -1))
    (struct.set $node 1 (local.get $node) (local.get $node))
    (i32.const 0)))

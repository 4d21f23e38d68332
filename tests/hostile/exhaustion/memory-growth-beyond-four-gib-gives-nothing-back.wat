;; expect: ok
;; limits: memory=16MB
;; within_ms: 1000
;; Growth beyond what 32 bits can address fails without the limiter having been asked. What it counted last must stay
;; counted, or a guest that lets such a growth fail each time gets past its limit.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (local $left i32)
    (local.set $left (i32.const 20))
    (loop $again
      (drop (memory.grow (i32.const 128)))
      (drop (memory.grow (i32.const 65536)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))
    (i32.gt_u (memory.size) (i32.const 256))))

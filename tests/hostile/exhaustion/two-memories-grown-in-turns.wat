;; expect: MEMORY_LIMIT
;; limits: memory=16MB
;; within_ms: 2000
;; Two memories that grow in turns. Each could reach 16 MB alone; together they are refused at 16 MB. Ends with exit
;; code 1 where they were allowed more.
(module
  (memory $first (export "memory") 1)
  (memory $second 1)
  (func (export "process") (result i32)
    (loop $again
      (if (i32.eq (memory.grow $first (i32.const 1)) (i32.const -1)) (then
        (if (i32.gt_u (i32.add (memory.size $first) (memory.size $second)) (i32.const 256))
          (then (return (i32.const 1))))
        unreachable))
      (br_if $again (i32.ne (memory.grow $second (i32.const 1)) (i32.const -1))))
    unreachable))

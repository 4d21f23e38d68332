;; expect: MEMORY_LIMIT
;; limits: memory=16MB
;; within_ms: 2000
;; `_initialize` grows memory until it is refused and then gives up, as an allocator does.
(module
  (memory (export "memory") 1)
  (func (export "_initialize")
    (loop
      (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable)
  (func (export "process") (result i32) i32.const 0))

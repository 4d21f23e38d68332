;; expect: MEMORY_LIMIT
;; says: 16
;; says: unreachable
;; limits: memory=16MB
;; within_ms: 2000
;; An allocator that gives up: `memory.grow` answers -1, the guest traps. What is reported is the limit, with the
;; trap behind it, since that is what the author can do something about.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    unreachable))

;; expect: MEMORY_LIMIT
;; limits: memory=16MB
;; within_ms: 3000
;; A list of structures that is kept alive and grows without end, on the garbage-collected heap. That heap lies
;; outside the linear memories, so their limit holds only if the heap is counted as well.
(module
  (rec (type $cell (struct (field (ref null $cell)) (field i64) (field i64) (field i64))))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (local $list (ref null $cell))
    (loop
      (local.set $list (struct.new $cell (local.get $list) (i64.const 1) (i64.const 2) (i64.const 3)))
      (br 0))
    unreachable))

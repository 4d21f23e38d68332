;; expect: INVALID_MODULE
;; says: memory 0
;; says: shared
;; Memory for threads. Agents have none, and a shared memory would outlive and escape the limiter of its store.
(module
  (memory (export "memory") 1 2 shared)
  (func (export "process") (result i32) i32.const 0))

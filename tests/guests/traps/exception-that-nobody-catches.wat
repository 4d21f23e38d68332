;; expect: TRAP
;; An exception thrown out of `process`. It must not go on through the host.
(module
  (tag $broken (param i32))
  (memory (export "memory") 1)
  (func (export "process") (result i32) (throw $broken (i32.const 7))))

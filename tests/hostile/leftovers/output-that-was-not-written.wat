;; expect: ok
;; output:
;; Writes nothing, and so has no output, whatever the one before it wrote.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) (i32.const 0)))

;; expect: INVALID_MODULE
;; says: process
;; `process` is exported by the index of a function that is not there. Looking at its type must not panic.
(module
  (memory (export "memory") 1)
  (export "process" (func 4294967295)))

;; expect: INVALID_MODULE
;; says: mentat.teleport
;; A function that the ABI does not have. Refused when loaded, by name: at execution it would be too late, and
;; "unknown import" without the name would send the author searching.
(module
  (import "mentat" "teleport" (func (param i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32) i32.const 0))

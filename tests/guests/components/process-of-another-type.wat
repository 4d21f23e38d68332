;; expect: INVALID_MODULE
;; says: process
;; `process` that takes a number. Found when loaded, and not by the first call.
(component
  (core module $code (func (export "process") (param i32) (result i32) (local.get 0)))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" u32) (result u32) (canon lift (core func $agent "process"))))

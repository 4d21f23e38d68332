;; expect: INVALID_MODULE
;; says: process
;; says: wasi:cli/run
;; A component that exports neither entry point: the error names both.
(component
  (core module $code (func (export "f")))
  (core instance $agent (instantiate $code))
  (func (export "f") (canon lift (core func $agent "f"))))

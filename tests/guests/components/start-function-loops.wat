;; expect: TIMEOUT
;; limits: metering=epoch timeout_ms=300
;; within_ms: 1000
;; The start function of a module inside the component loops, while the component is instantiated.
(component
  (core module $code
    (memory (export "memory") 2)
    (func $start (loop (br 0)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "process") (param i32 i32) (result i32) i32.const 0)
    (start $start))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

;; expect: FUEL_EXHAUSTED
;; input: some bytes
;; limits: fuel=10000000
;; within_ms: 2000
;; The guest's allocator loops. It is called by the host while the input is passed, before `process` begins.
(component
  (core module $code
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) unreachable)
    (func (export "process") (param i32 i32) (result i32) i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

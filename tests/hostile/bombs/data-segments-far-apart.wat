;; expect: ok
;; output: end
;; limits: memory=64MB
;; within_ms: 1000
;; Two small data segments sixty megabytes apart. A host that makes one image of the whole span for each execution
;; takes 60 MB and milliseconds; the right one maps what is there.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1000)
  (data (i32.const 0) "begin")
  (data (i32.const 64000000) "end")
  (func (export "process") (result i32) (call $write_output (i32.const 64000000) (i32.const 3))))

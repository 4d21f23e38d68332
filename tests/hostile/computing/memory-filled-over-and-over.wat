;; expect: FUEL_EXHAUSTED
;; within_ms: 3000
;; `memory.fill` of all 64 MB in a loop: one operation of WebAssembly for milliseconds of work. Wasmtime charges fuel
;; for each byte of it; were it one unit for the call, the default budget would last for days.
(module
  (memory (export "memory") 1024)
  (func (export "process") (result i32)
    (loop
      (memory.fill (i32.const 0) (i32.const 170) (i32.const 67108864))
      (br 0))
    unreachable))

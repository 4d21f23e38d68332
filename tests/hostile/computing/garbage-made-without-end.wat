;; expect: FUEL_EXHAUSTED
;; limits: memory=16MB fuel=20000000
;; within_ms: 3000
;; Structures that nobody keeps: collecting them is the host's work, in a loop that the guest drives. It stays within
;; the memory, and the fuel ends it.
(module
  (type $cell (struct (field i64) (field i64)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (loop (drop (struct.new $cell (i64.const 1) (i64.const 2))) (br 0))
    unreachable))

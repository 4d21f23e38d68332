;; expect: ok
;; Passive segments are there at the beginning, whatever the execution before has dropped, and active ones have their own
;; content again, whatever was written over it.
(module
  (memory (export "memory") 2)
  (table 10 funcref)
  (data $passive "passive!")
  (data (i32.const 0x10000) "active!!")
  (elem $functions func $mark $mark)
  (func $mark)
  (func (export "process") (result i32)
    (if (i64.ne (i64.load (i32.const 0x10000)) (i64.const 0x2121657669746361)) (then (return (i32.const 1))))
    (memory.init $passive (i32.const 0) (i32.const 0) (i32.const 8))
    (if (i64.ne (i64.load (i32.const 0)) (i64.const 0x2165766973736170)) (then (return (i32.const 2))))
    (table.init $functions (i32.const 0) (i32.const 0) (i32.const 2))
    (if (ref.is_null (table.get (i32.const 1))) (then (return (i32.const 3))))
    (data.drop $passive)
    (elem.drop $functions)
    (memory.fill (i32.const 0x10000) (i32.const 0xff) (i32.const 0x10000))
    (i32.const 0)))

;; expect: TRAP
;; says: out of bounds
;; A data segment that begins three bytes before the end of memory and is four bytes long. Valid WebAssembly, a trap
;; at instantiation; a copy-on-write image laid down without the check would lie past the memory.
(module
  (memory (export "memory") 1)
  (data (i32.const 65533) "1234")
  (func (export "process") (result i32) i32.const 0))

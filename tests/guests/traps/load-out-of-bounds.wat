;; expect: TRAP
;; says: out of bounds
;; says: reach_out
;; The address and the offset add up to nearly 8 GiB: past memory, past the 4 GiB that a 32-bit address can name, and
;; so past a guard region that only thought of addresses.
(module
  (memory (export "memory") 1)
  (func $reach_out (param i32) (result i32) (i32.load offset=0xffffffff (local.get 0)))
  (func (export "process") (result i32) (call $reach_out (i32.const 0xfffffffc))))

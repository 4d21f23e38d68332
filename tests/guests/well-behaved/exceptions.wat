;; expect: ok
;; An exception thrown and caught within the guest, with its value.
(module
  (tag $broken (param i32))
  (memory (export "memory") 1)
  (func $throws (throw $broken (i32.const 7)))
  (func (export "process") (result i32)
    (block $caught (result i32)
      (try_table (catch $broken $caught) (call $throws))
      (return (i32.const 1)))
    (i32.ne (i32.const 7))))

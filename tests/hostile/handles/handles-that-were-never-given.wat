;; expect: ok
;; output: the handle is none that was given out, or was given back
;; Every number is a bad handle, -9, to an execution that was granted nothing. The exit code is that of the first call
;; which answers something else.
(module
  (import "mentat" "invoke_capability" (func $invoke (param i32 i32 i32) (result i32)))
  (import "mentat" "release_capability" (func $release (param i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "{}")
  (func $bad (param $handle i32) (result i32)
    (i32.and
      (i32.eq (call $invoke (local.get $handle) (i32.const 0) (i32.const 2)) (i32.const -9))
      (i32.eq (call $release (local.get $handle)) (i32.const -9))))
  (func (export "process") (result i32)
    (local $handle i32)
    (if (i32.eqz (call $bad (i32.const -1))) (then (return (i32.const 1))))
    (if (i32.eqz (call $bad (i32.const -2147483648))) (then (return (i32.const 2))))
    (if (i32.eqz (call $bad (i32.const 2147483647))) (then (return (i32.const 3))))
    (loop $next
      (if (i32.eqz (call $bad (local.get $handle))) (then (return (i32.const 4))))
      (local.set $handle (i32.add (local.get $handle) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $handle) (i32.const 100))))
    (call $write_output (i32.const 100) (call $last_error (i32.const 100) (i32.const 1000)))))

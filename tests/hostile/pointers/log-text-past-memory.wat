;; expect: TRAP
;; says: out of bounds
;; A string for the log that ends behind memory: traps like the core ABI's.
(component
  (import "mentat:agent/log@1.0.0" (instance $log
    (type $level (enum "error" "warn" "info" "debug" "trace"))
    (export "level" (type $exported (eq $level)))
    (export "log" (func (param "level" $exported) (param "message" string)))))
  (core module $libc (memory (export "memory") 1))
  (core instance $libc (instantiate $libc))
  (core func $log (canon lower (func $log "log") (memory (core memory $libc "memory"))))
  (core module $code
    (import "host" "log" (func $log (param i32 i32 i32)))
    (func (export "run") (result i32) (call $log (i32.const 2) (i32.const 65000) (i32.const 1000)) i32.const 0))
  (core instance $main (instantiate $code (with "host" (instance (export "log" (func $log))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))

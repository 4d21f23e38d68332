;; expect: FUEL_EXHAUSTED
;; limits: fuel=500000
;; Ten thousand lines by the typed interface. What the guest itself computes for them takes a fifth of its fuel: the rest is
;; the price of the calls, the same as that of the core ABI, so that no interface is a way to work for nothing.
(component
  (import "mentat:agent/log@1.0.0" (instance $log
    (type $level (enum "error" "warn" "info" "debug" "trace"))
    (export "level" (type $exported (eq $level)))
    (export "log" (func (param "level" $exported) (param "message" string)))))
  (core module $libc (memory (export "memory") 1) (data (i32.const 0) "again"))
  (core instance $libc (instantiate $libc))
  (core func $log (canon lower (func $log "log") (memory (core memory $libc "memory"))))
  (core module $code
    (import "host" "log" (func $log (param i32 i32 i32)))
    (func (export "run") (result i32) (local $left i32)
      (local.set $left (i32.const 10000))
      (loop $again
        (call $log (i32.const 4) (i32.const 0) (i32.const 5))
        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (i32.const 0)))
  (core instance $main (instantiate $code (with "host" (instance (export "log" (func $log))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))

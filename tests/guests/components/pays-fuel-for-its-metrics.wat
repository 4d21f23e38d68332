;; expect: FUEL_EXHAUSTED
;; limits: fuel=500000
;; Records a metric two thousand times by the typed interface: little to compute for the guest, an event each for the host.
(component
  (import "mentat:agent/errors@1.0.0" (instance $errors
    (type $code (enum "not-in-manifest" "denied" "malformed" "not-found" "too-large" "exhausted" "timed-out"
      "unavailable" "closed" "unsupported"))
    (export "code" (type $c (eq $code)))
    (type $error (record (field "code" $c) (field "message" string)))
    (export "error" (type (eq $error)))))
  (alias export $errors "error" (type $error))
  (import "mentat:agent/metrics@1.0.0" (instance $metrics
    (alias outer 1 $error (type $e))
    (export "error" (type $error (eq $e)))
    (export "record" (func (param "name" string) (param "value" float64) (result (result (error $error)))))))
  (core module $libc
    (memory (export "memory") 1)
    (data (i32.const 0) "turns")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (core func $record (canon lower (func $metrics "record")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $code
    (import "host" "record" (func $record (param i32 i32 f64 i32)))
    (func (export "run") (result i32) (local $left i32)
      (local.set $left (i32.const 2000))
      (loop $again
        (call $record (i32.const 0) (i32.const 5) (f64.const 1) (i32.const 100))
        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (i32.const 0)))
  (core instance $main (instantiate $code (with "host" (instance (export "record" (func $record))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))

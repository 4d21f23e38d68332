;; expect: ok
;; within_ms: 10000
;; Makes requests and gives each a method, and an authority, of sixteen megabytes. The host would keep them outside the
;; guest's memory, so it takes none that is longer than any server would; short ones it takes.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "fields" (type $fields (sub resource)))
    (export "outgoing-request" (type $request (sub resource)))
    (type $methods (variant (case "get") (case "head") (case "post") (case "put") (case "delete") (case "connect")
      (case "options") (case "trace") (case "patch") (case "other" string)))
    (export "method" (type $method (eq $methods)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[constructor]outgoing-request" (func (param "headers" (own $fields)) (result (own $request))))
    (export "[method]outgoing-request.set-method"
      (func (param "self" (borrow $request)) (param "method" $method) (result (result))))
    (export "[method]outgoing-request.set-authority"
      (func (param "self" (borrow $request)) (param "authority" (option string)) (result (result))))))
  (core module $memory (memory (export "memory") 260))
  (core instance $memory (instantiate $memory))
  (core func $fields (canon lower (func $types "[constructor]fields")))
  (core func $request (canon lower (func $types "[constructor]outgoing-request")))
  (core func $method (canon lower (func $types "[method]outgoing-request.set-method")
    (memory (core memory $memory "memory"))))
  (core func $authority (canon lower (func $types "[method]outgoing-request.set-authority")
    (memory (core memory $memory "memory"))))
  (core module $code
    (import "memory" "memory" (memory 260))
    (import "types" "fields" (func $fields (result i32)))
    (import "types" "request" (func $request (param i32) (result i32)))
    (import "types" "method" (func $method (param i32 i32 i32 i32) (result i32)))
    (import "types" "authority" (func $authority (param i32 i32 i32 i32) (result i32)))
    (func (export "run") (result i32)
      (local $request i32) (local $made i32)
      (memory.fill (i32.const 0) (i32.const 65) (i32.const 16777216))
      (loop
        (local.set $request (call $request (call $fields)))
        ;; 0 is ok, 1 is the error.
        (if (i32.eqz (call $method (local.get $request) (i32.const 9) (i32.const 0) (i32.const 16777216)))
          (then unreachable))
        (if (i32.eqz (call $authority (local.get $request) (i32.const 1) (i32.const 0) (i32.const 16777216)))
          (then unreachable))
        (if (call $method (local.get $request) (i32.const 9) (i32.const 0) (i32.const 100)) (then unreachable))
        (if (call $authority (local.get $request) (i32.const 1) (i32.const 0) (i32.const 100)) (then unreachable))
        (local.set $made (i32.add (local.get $made) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $made) (i32.const 20))))
      i32.const 0))
  (core instance $main (instantiate $code
    (with "memory" (instance $memory))
    (with "types" (instance
      (export "fields" (func $fields)) (export "request" (func $request))
      (export "method" (func $method)) (export "authority" (func $authority))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))

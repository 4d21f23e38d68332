;; The typed twin of `ask.wat`: asks for the capability that is its input. Its output is empty where it is given, else
;; the number of the error's case as a digit, and the error's text.
(component
  (import "mentat:agent/errors@1.0.0" (instance $errors
    (type $code (enum "not-in-manifest" "denied" "malformed" "not-found" "too-large" "exhausted" "timed-out"
      "unavailable" "closed" "unsupported"))
    (export "code" (type $named (eq $code)))
    (type $error (record (field "code" $named) (field "message" string)))
    (export "error" (type (eq $error)))))
  (alias export $errors "error" (type $error))
  (import "mentat:agent/capabilities@1.0.0" (instance $capabilities
    (export "grant" (type $grant (sub resource)))
    (alias outer 1 $error (type $outer))
    (export "error" (type $refusal (eq $outer)))
    (export "request" (func (param "capability" string) (result (result (own $grant) (error $refusal)))))))
  (core module $memory
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 4096))
    ;; Leaves a byte before whatever is allocated.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $given i32)
      (local.set $given (i32.add (global.get $next) (i32.const 1)))
      (global.set $next (i32.add (local.get $given) (local.get 3)))
      (local.get $given)))
  (core instance $memory (instantiate $memory))
  (core func $request (canon lower (func $capabilities "request")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $code
    (import "host" "memory" (memory 2))
    (import "host" "request" (func $request (param i32 i32 i32)))
    ;; The answer of `request` at 0: its case, then a handle or an error's case, text and length. The output at 32.
    (func (export "process") (param i32 i32) (result i32)
      (call $request (local.get 0) (local.get 1) (i32.const 0))
      (i32.store (i32.const 32) (i32.const 0))
      (i32.store (i32.const 36) (i32.const 0))
      (i32.store (i32.const 40) (i32.const 0))
      (if (i32.load8_u (i32.const 0)) (then
        (i32.store (i32.const 36) (i32.sub (i32.load (i32.const 8)) (i32.const 1)))
        (i32.store (i32.const 40) (i32.add (i32.load (i32.const 12)) (i32.const 1)))
        (i32.store8 (i32.load (i32.const 36)) (i32.add (i32.load8_u (i32.const 4)) (i32.const 48)))))
      (i32.const 32)))
  (core instance $agent (instantiate $code (with "host" (instance
    (export "memory" (memory $memory "memory")) (export "request" (func $request))))))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc")))))

;; Sends a request with a secret. Its input: the secret's capability, the network capability, and the arguments of the
;; request, in which each `@` stands for what the secret gave. Its output is the placeholder, a new line, and the last result; where a call
;; fails, the error's text, and its exit code is the error's number.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
  (import "mentat" "invoke_capability" (func $invoke (param i32 i32 i32) (result i32)))
  (import "mentat" "result_read" (func $result_read (param i32 i32 i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (memory (export "memory") 128)
  (global $end (mut i32) (i32.const 0))
  (global $at (mut i32) (i32.const 0))
  (func $line (result i32)
    (local $scan i32)
    (local.set $scan (global.get $at))
    (block $found
      (loop $next
        (br_if $found (i32.ge_u (local.get $scan) (global.get $end)))
        (br_if $found (i32.eq (i32.load8_u (local.get $scan)) (i32.const 10)))
        (local.set $scan (i32.add (local.get $scan) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $scan) (global.get $at)))
  (func $fail (param $code i32) (result i32)
    (drop (call $write_output (i32.const 0x200000) (call $last_error (i32.const 0x200000) (i32.const 0x10000))))
    (local.get $code))
  (func (export "process") (result i32)
    (local $length i32) (local $secret i32) (local $network i32) (local $placeholder i32) (local $to i32) (local $got i32)
    (local $byte i32)
    (global.set $end (call $read_input (i32.const 0) (i32.const 0x100000)))
    (local.set $length (call $line))
    (local.set $secret (call $request (global.get $at) (local.get $length)))
    (if (i32.le_s (local.get $secret) (i32.const 0)) (then (return (call $fail (local.get $secret)))))
    (local.set $placeholder (call $invoke (local.get $secret) (i32.const 0) (i32.const 0)))
    (if (i32.lt_s (local.get $placeholder) (i32.const 0)) (then (return (call $fail (local.get $placeholder)))))
    (drop (call $result_read (i32.const 0) (i32.const 0x200000) (local.get $placeholder)))
    (i32.store8 (i32.add (i32.const 0x200000) (local.get $placeholder)) (i32.const 10))
    (global.set $at (i32.add (global.get $at) (i32.add (local.get $length) (i32.const 1))))
    (local.set $length (call $line))
    (local.set $network (call $request (global.get $at) (local.get $length)))
    (if (i32.le_s (local.get $network) (i32.const 0)) (then (return (call $fail (local.get $network)))))
    (global.set $at (i32.add (global.get $at) (i32.add (local.get $length) (i32.const 1))))
    (local.set $to (i32.const 0x500000))
    (block $done
      (loop $copy
        (br_if $done (i32.ge_u (global.get $at) (global.get $end)))
        (local.set $byte (i32.load8_u (global.get $at)))
        (if (i32.eq (local.get $byte) (i32.const 64))
          (then
            (memory.copy (local.get $to) (i32.const 0x200000) (local.get $placeholder))
            (local.set $to (i32.add (local.get $to) (local.get $placeholder))))
          (else
            (i32.store8 (local.get $to) (local.get $byte))
            (local.set $to (i32.add (local.get $to) (i32.const 1)))))
        (global.set $at (i32.add (global.get $at) (i32.const 1)))
        (br $copy)))
    (local.set $got (call $invoke
      (local.get $network) (i32.const 0x500000) (i32.sub (local.get $to) (i32.const 0x500000))))
    (if (i32.lt_s (local.get $got) (i32.const 0)) (then (return (call $fail (local.get $got)))))
    (local.set $placeholder (i32.add (local.get $placeholder) (i32.const 1)))
    (local.set $got (call $result_read
      (i32.const 0) (i32.add (i32.const 0x200000) (local.get $placeholder)) (i32.const 0x200000)))
    (drop (call $write_output (i32.const 0x200000) (i32.add (local.get $placeholder) (local.get $got))))
    (i32.const 0)))

;; Does one thing with media, as its input says: a letter, two numbers of four bytes, and what they are for.
;;   d A B reference: reads the object from A on in pieces of B bytes, and gives out all of them.
;;   c A B reference: the same, all pieces into one place; gives out how many bytes there were, as four bytes.
;;   u A B type content: stores the content with a type of A bytes, and gives out the reference.
;;   g A B type: stores A zeros with a type of B bytes, and gives out the reference.
;; Where a call fails, the output is the error's text and the exit code the error's number.
(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (import "mentat" "download_media" (func $download (param i32 i32) (result i32)))
  (import "mentat" "upload_media" (func $upload (param i32 i32 i32 i32) (result i32)))
  (import "mentat" "result_read" (func $result_read (param i32 i32 i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (memory (export "memory") 128)
  (func $fail (param $code i32) (result i32)
    (drop (call $write_output (i32.const 0x200000) (call $last_error (i32.const 0x200000) (i32.const 0x10000))))
    (local.get $code))
  (func $read (param $from i32) (param $piece i32) (param $step i32) (result i32)
    (local $at i32) (local $got i32)
    (loop $next
      (local.set $got (call $result_read (i32.add (local.get $from) (local.get $at))
        (i32.add (i32.const 0x200000) (i32.mul (local.get $at) (local.get $step))) (local.get $piece)))
      (if (i32.lt_s (local.get $got) (i32.const 0)) (then (return (local.get $got))))
      (local.set $at (i32.add (local.get $at) (local.get $got)))
      (br_if $next (local.get $got)))
    (local.get $at))
  (func (export "process") (result i32)
    (local $length i32) (local $op i32) (local $a i32) (local $b i32) (local $got i32)
    (local.set $length (call $read_input (i32.const 0) (i32.const 0x200000)))
    (local.set $op (i32.load8_u (i32.const 0)))
    (local.set $a (i32.load (i32.const 1)))
    (local.set $b (i32.load (i32.const 5)))
    (if (i32.eq (local.get $op) (i32.const 0x75)) (then
      (local.set $got (call $upload
        (i32.add (i32.const 9) (local.get $a))
        (i32.sub (local.get $length) (i32.add (i32.const 9) (local.get $a)))
        (i32.const 9) (local.get $a)))))
    (if (i32.eq (local.get $op) (i32.const 0x67)) (then
      (drop (memory.grow (i32.shr_u (local.get $a) (i32.const 16))))
      (local.set $got (call $upload (i32.const 0x200000) (local.get $a) (i32.const 9) (local.get $b)))))
    (if (i32.ge_u (local.get $op) (i32.const 0x65)) (then
      (if (i32.lt_s (local.get $got) (i32.const 0)) (then (return (call $fail (local.get $got)))))
      (return (call $write_output (i32.const 0x200000)
        (call $result_read (i32.const 0) (i32.const 0x200000) (local.get $got))))))
    (local.set $got (call $download (i32.const 9) (i32.sub (local.get $length) (i32.const 9))))
    (if (i32.lt_s (local.get $got) (i32.const 0)) (then (return (call $fail (local.get $got)))))
    (local.set $got
      (call $read (local.get $a) (local.get $b) (i32.eq (local.get $op) (i32.const 0x64))))
    (if (i32.lt_s (local.get $got) (i32.const 0)) (then (return (call $fail (local.get $got)))))
    (if (i32.eq (local.get $op) (i32.const 0x63)) (then
      (i32.store (i32.const 0x200000) (local.get $got))
      (local.set $got (i32.const 4))))
    (call $write_output (i32.const 0x200000) (local.get $got))))

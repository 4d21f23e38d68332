;; A WASI command that does to files, in the first directory it has, what the lines of its stdin say: `r PATH` reads and
;; prints, `w PATH` makes anew and writes a thousand bytes, `l PATH` counts what a listing takes, `s PATH` looks, `u PATH`
;; removes, `d PATH` makes a directory, `m PATH PATH` renames, `h PATH PATH` links, `k TARGET PATH` makes a symbolic link,
;; `x PATH PATH` renames into the second directory, `o PATH` opens for reading and does not close, `t PATH` makes anew and sets the length to a million. The exit status is
;; the error number of the first that fails.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $set_size (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 8)
  ;; A vector at 0, a count at 8, a descriptor at 12; the input at 1024; a buffer at 0x20000.
  (global $at (mut i32) (i32.const 1024))
  (global $end (mut i32) (i32.const 0))
  (global $first (mut i32) (i32.const 0)) (global $first_length (mut i32) (i32.const 0))
  (global $second (mut i32) (i32.const 0)) (global $second_length (mut i32) (i32.const 0))
  (func $check (param $errno i32) (if (local.get $errno) (then (call $proc_exit (local.get $errno)))))
  (func $vector (param i32 i32)
    (i32.store (i32.const 0) (local.get 0))
    (i32.store (i32.const 4) (local.get 1)))
  ;; Where the word at $at ends: at a space, a line's end, or the end of all.
  (func $word_end (result i32)
    (local $scan i32)
    (local.set $scan (global.get $at))
    (block $found
      (loop $next
        (br_if $found (i32.ge_u (local.get $scan) (global.get $end)))
        (br_if $found (i32.eq (i32.load8_u (local.get $scan)) (i32.const 10)))
        (br_if $found (i32.eq (i32.load8_u (local.get $scan)) (i32.const 32)))
        (local.set $scan (i32.add (local.get $scan) (i32.const 1)))
        (br $next)))
    (local.get $scan))
  (func $words
    (local $end i32)
    (local.set $end (call $word_end))
    (global.set $first (global.get $at))
    (global.set $first_length (i32.sub (local.get $end) (global.get $at)))
    (global.set $at (i32.add (local.get $end) (i32.const 1)))
    (global.set $second_length (i32.const 0))
    (if (i32.and (i32.lt_u (local.get $end) (global.get $end)) (i32.eq (i32.load8_u (local.get $end)) (i32.const 32)))
      (then
        (local.set $end (call $word_end))
        (global.set $second (global.get $at))
        (global.set $second_length (i32.sub (local.get $end) (global.get $at)))
        (global.set $at (i32.add (local.get $end) (i32.const 1))))))
  (func $open (param $flags i32) (param $rights i64) (result i32)
    (call $check (call $path_open (i32.const 3) (i32.const 1) (global.get $first) (global.get $first_length)
      (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 12)))
    (i32.load (i32.const 12)))
  (func $do (param $op i32)
    (local $fd i32)
    (if (i32.eq (local.get $op) (i32.const 114)) (then ;; r
      (local.set $fd (call $open (i32.const 0) (i64.const 2)))
      (call $vector (i32.const 0x20000) (i32.const 0x10000))
      (call $check (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $vector (i32.const 0x20000) (i32.load (i32.const 8)))
      (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $check (call $fd_close (local.get $fd)))))
    (if (i32.eq (local.get $op) (i32.const 119)) (then ;; w
      (local.set $fd (call $open (i32.const 9) (i64.const 64)))
      (call $vector (i32.const 0x20000) (i32.const 1000))
      (call $check (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $check (call $fd_close (local.get $fd)))))
    (if (i32.eq (local.get $op) (i32.const 116)) (then ;; t
      (local.set $fd (call $open (i32.const 9) (i64.const 64)))
      (call $check (call $set_size (local.get $fd) (i64.const 1000000)))
      (call $check (call $fd_close (local.get $fd)))))
    (if (i32.eq (local.get $op) (i32.const 108)) (then ;; l
      (local.set $fd (call $open (i32.const 2) (i64.const 16384)))
      (call $check (call $fd_readdir (local.get $fd) (i32.const 0x20000) (i32.const 0x10000) (i64.const 0) (i32.const 8)))
      (call $check (call $fd_close (local.get $fd)))))
    (if (i32.eq (local.get $op) (i32.const 111)) (then ;; o
      (drop (call $open (i32.const 0) (i64.const 2)))))
    (if (i32.eq (local.get $op) (i32.const 115)) (then ;; s
      (call $check (call $stat (i32.const 3) (i32.const 1) (global.get $first) (global.get $first_length)
        (i32.const 0x20000)))))
    (if (i32.eq (local.get $op) (i32.const 117)) (then ;; u
      (call $check (call $unlink (i32.const 3) (global.get $first) (global.get $first_length)))))
    (if (i32.eq (local.get $op) (i32.const 100)) (then ;; d
      (call $check (call $mkdir (i32.const 3) (global.get $first) (global.get $first_length)))))
    (if (i32.eq (local.get $op) (i32.const 109)) (then ;; m
      (call $check (call $rename (i32.const 3) (global.get $first) (global.get $first_length)
        (i32.const 3) (global.get $second) (global.get $second_length)))))
    (if (i32.eq (local.get $op) (i32.const 120)) (then ;; x
      (call $check (call $rename (i32.const 3) (global.get $first) (global.get $first_length)
        (i32.const 4) (global.get $second) (global.get $second_length)))))
    (if (i32.eq (local.get $op) (i32.const 104)) (then ;; h
      (call $check (call $link (i32.const 3) (i32.const 0) (global.get $first) (global.get $first_length)
        (i32.const 3) (global.get $second) (global.get $second_length)))))
    (if (i32.eq (local.get $op) (i32.const 107)) (then ;; k
      (call $check (call $symlink (global.get $first) (global.get $first_length)
        (i32.const 3) (global.get $second) (global.get $second_length))))))
  (func (export "_start")
    (local $op i32)
    (call $vector (i32.const 1024) (i32.const 0x10000))
    (call $check (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (global.set $end (i32.add (i32.const 1024) (i32.load (i32.const 8))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (global.get $at) (global.get $end)))
        (local.set $op (i32.load8_u (global.get $at)))
        (global.set $at (i32.add (global.get $at) (i32.const 2)))
        (call $words)
        (call $do (local.get $op))
        (br $next)))))

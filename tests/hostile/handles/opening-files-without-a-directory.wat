;; expect: ok
;; No directory is open, so there is nothing to open a file from: every descriptor answers `badf` (8), the standard
;; streams as well, whatever the path says. Written as a probe of eight descriptors with a path that climbs out.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "../../../../etc/passwd")
  (func (export "process") (result i32) (local $fd i32)
    (loop
      (if (i32.ne (i32.const 8)
          (call $path_open (local.get $fd) (i32.const 0) (i32.const 0) (i32.const 22) (i32.const 0)
            (i64.const 0x1fffffff) (i64.const 0x1fffffff) (i32.const 0) (i32.const 100)))
        (then (return (i32.const 1))))
      (if (i32.ne (call $prestat (local.get $fd) (i32.const 200)) (i32.const 8)) (then (return (i32.const 2))))
      (br_if 0 (i32.lt_u (local.tee $fd (i32.add (local.get $fd) (i32.const 1))) (i32.const 8))))
    i32.const 0))

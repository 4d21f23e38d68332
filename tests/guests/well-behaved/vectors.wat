;; expect: ok
;; output: BCDEFGHIJKLMNOPQ
;; SIMD, fixed and relaxed: one added to sixteen bytes at once.
(module
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "ABCDEFGHIJKLMNOP")
  (func (export "process") (result i32)
    (v128.store (i32.const 0) (i8x16.add (v128.load (i32.const 0)) (i8x16.splat (i32.const 1))))
    (if (i32.ne (i32.const 7) (i32x4.extract_lane 0
        (i32x4.relaxed_trunc_f32x4_s (f32x4.splat (f32.const 7.5)))))
      (then (return (i32.const 1))))
    (call $write_output (i32.const 0) (i32.const 16))))

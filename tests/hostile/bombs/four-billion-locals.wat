;; expect: INVALID_MODULE
;; within_ms: 2000
;; says: locals
;; A body of a few bytes that declares 2^32-1 locals in one run. Validation ends it; a compiler that believed it
;; would lay out a frame of 32 GiB.
(module binary "\00asm\01\00\00\00"
  "\01\05\01\60\00\01\7f"
  "\03\02\01\00"
  "\05\03\01\00\01"
  "\07\14\02\06memory\02\00\07process\00\00"
  "\0a\0c\01\0a\01\ff\ff\ff\ff\0f\7e\41\00\0b")

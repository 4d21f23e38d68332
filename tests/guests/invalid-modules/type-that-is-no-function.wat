;; expect: INVALID_MODULE
;; says: process
;; `process` has the type of index 1, which is a structure and no function type.
(module binary
  "\00asm\01\00\00\00"
  "\01\09\02" "\60\00\01\7f" "\5f\01\7f\00"  ;; types: () -> i32, and a structure of one i32
  "\03\02\01\01"                             ;; one function of type 1
  "\05\03\01\00\01"                          ;; a memory of one page
  "\07\14\02\06memory\02\00\07process\00\00" ;; exports
  "\0a\06\01\04\00\41\00\0b")                ;; its body

;; expect: INVALID_MODULE
;; The function section promises two functions, the code section has one body.
(module binary "\00asm\01\00\00\00"
  "\01\05\01\60\00\01\7f"                    ;; type () -> i32
  "\03\03\02\00\00"                          ;; two functions
  "\05\03\01\00\01"                          ;; a memory of one page
  "\07\14\02\06memory\02\00\07process\00\00" ;; exports
  "\0a\06\01\04\00\41\00\0b")                ;; one body

;; expect: INVALID_MODULE
;; Exports before the memory and the function that they name.
(module binary "\00asm\01\00\00\00"
  "\01\05\01\60\00\01\7f"
  "\07\14\02\06memory\02\00\07process\00\00"
  "\05\03\01\00\01"
  "\03\02\01\00"
  "\0a\06\01\04\00\41\00\0b")

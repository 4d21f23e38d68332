;; expect: INVALID_MODULE
;; An import of the module name C3 28, which is not UTF-8; it must be refused before anyone shows it.
(module binary "\00asm\01\00\00\00"
  "\01\04\01\60\00\00"          ;; type () -> ()
  "\02\08\01\02\c3\28\01f\00\00") ;; import "\c3\28" "f"

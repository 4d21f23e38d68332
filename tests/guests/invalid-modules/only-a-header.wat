;; expect: INVALID_MODULE
;; says: process
;; The smallest valid module: eight bytes and nothing to call.
(module binary "\00asm\01\00\00\00")

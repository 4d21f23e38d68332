;; expect: INVALID_MODULE
;; within_ms: 1000
;; The header of a WebAssembly that does not exist yet: version 2.
(module binary "\00asm\02\00\00\00")

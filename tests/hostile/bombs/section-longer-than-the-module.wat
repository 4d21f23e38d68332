;; expect: INVALID_MODULE
;; within_ms: 1000
;; A custom section whose length goes 4 GiB past the end.
(module binary "\00asm\01\00\00\00" "\00\ff\ff\ff\ff\0f\04name")

;; expect: INVALID_MODULE
;; within_ms: 1000
;; A type section of six bytes that says it holds 2^32-1 types. A reader that reserves room for what a count says
;; asks its allocator for 100 GiB and is killed.
(module binary "\00asm\01\00\00\00" "\01\05\ff\ff\ff\ff\0f")

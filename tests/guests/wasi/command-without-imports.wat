;; expect: ok
;; output:
;; A command that asks nothing of anybody, not even for a memory.
(module (func (export "_start")))

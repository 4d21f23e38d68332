;; expect: INVALID_MODULE
;; says: env.memory
;; A memory of the host's choosing, as Emscripten and old threads builds want it. The host has none to give: it
;; never shares memory between executions.
(module
  (import "env" "memory" (memory 1))
  (export "memory" (memory 0))
  (func (export "process") (result i32) i32.const 0))

;; expect: ok
;; input: granted nothing
;; output: granted nothing
;; Imports of sockets, files and HTTP in several versions, none of them called, as componentize-py and componentize-js
;; bring them along. All are linked and deny when called; an agent does not fail for the want of a grant it never uses.
(component
  (import "wasi:sockets/network@0.2.0" (instance (export "network" (type (sub resource)))))
  (import "wasi:sockets/tcp@0.2.3" (instance (export "tcp-socket" (type (sub resource)))))
  (import "wasi:sockets/ip-name-lookup@0.2.0" (instance))
  (import "wasi:filesystem/types@0.2.0" (instance (export "descriptor" (type (sub resource)))))
  (import "wasi:filesystem/preopens@0.2.3" (instance))
  (import "wasi:http/types@0.2.3" (instance (export "fields" (type (sub resource)))))
  (import "wasi:http/outgoing-handler@0.2.0" (instance))
  (import "wasi:cli/terminal-stdin@0.2.6" (instance))
  (core module $code
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
    (func (export "process") (param i32 i32) (result i32)
      (i32.store (i32.const 4) (local.get 0))
      (i32.store (i32.const 8) (local.get 1))
      i32.const 0))
  (core instance $agent (instantiate $code))
  (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $agent "process")
      (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))

//! WASI's files and variables, call by call: a guest that makes any calls of `wasi_snapshot_preview1` it is told to.

mod calls;
mod limits;
mod plain;
mod quota;
mod refusals;
mod same_as_plain;

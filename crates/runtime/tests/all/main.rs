//! The runtime through its public surface: one test binary, so that Wasmtime is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod beside;
mod brief;
mod capabilities;
mod compile;
mod denials;
mod generated;
mod guests;
mod harness;
mod headers;
mod host_calls;
mod hostile;
mod lessons;
mod media;
mod network;
mod places;
mod snapshot;
mod streams;
mod walk;
mod warm;
mod wasi;
mod world;

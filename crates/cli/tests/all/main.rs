//! The whole program through its public surfaces: the command line, gRPC, HTTP. One test binary, so that the
//! client code is linked once; `mentat` itself is the binary that users run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod agents;
mod attestation;
mod audit;
mod bombs;
mod browser;
mod clients;
mod connections;
mod console;
mod containers;
mod cutter;
mod durability;
mod encryption;
mod errors;
mod examples;
mod executions;
mod files;
mod guests;
mod large;
mod media;
mod network;
mod objects;
mod oci;
mod pki;
mod policy;
mod program;
mod receipts;
mod server;
mod sign;
mod start_fast;
mod streams;

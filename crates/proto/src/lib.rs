//! The wire contract of the runtime as Rust: messages, client and server of `mentat.runtime.v1`, generated
//! from `proto/` by `cargo xtask codegen` and committed. Knows nothing of the engine, so that clients need
//! not compile it.

/// Package `mentat.runtime.v1`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    rust_2018_idioms,
    reason = "generated code; the contract carries the documentation"
)]
#[rustfmt::skip]
#[path = "gen/mentat.runtime.v1.rs"]
pub mod v1;

/// The contract's file descriptors, encoded, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.bin");

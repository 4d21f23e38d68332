//! Attestations whose keys, certificates, lists and signatures were made by others: by the `openssl` command and by Python's
//! `cryptography`, while the tests run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests fail by panicking"
)]

mod authority;
mod chains;
mod constraints;
mod keys;
mod python;
mod revocations;
mod signatures;
mod signing;
mod straight;
mod tampering;

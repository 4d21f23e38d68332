//! Attestations whose keys, certificates, lists and signatures were made by others: by the `openssl` command and by Python's
//! `cryptography`, while the tests run.

mod authority;
mod straight;

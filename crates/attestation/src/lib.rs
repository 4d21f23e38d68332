//! Attestations: what is signed of an agent, and whether a signature on it holds, by certificates that an operator trusts.
//!
//! Verifying is pure: bytes in, a [`Signer`] or a [`Rejection`] out. No files, no network, no clock of its own, nothing of the
//! engine. Everything there is fed by strangers, so that everything is bounded before it is read, and cheap checks come
//! before any arithmetic on their keys. [`signing`] is the other side, with keys, files and commands; nothing of the verifying
//! side sees it.
//!
//! - [`Statement`] is what is signed: a manifest and its module's digest as canonical JSON.
//! - [`Verifier`] verifies a block against [`Anchors`] and [`Revocations`].
//! - [`signing`] makes a block, and runs an authority.
//! - [`sigstore`] verifies envelopes and bundles by a [`PublicKey`].

mod algorithm;
mod ambiguity;
mod canonical;
mod certificate;
mod chain;
mod name;
mod public_key;
mod rejection;
pub mod signing;
pub mod sigstore;
mod statement;
mod trust;
mod verify;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use ambiguity::Ambiguity;
pub use canonical::{InexactNumber, canonical};
pub use certificate::{Certificate, CertificateFault};
pub use name::is_written_name;
pub use public_key::{KeyFault, PublicKey};
pub use rejection::{ChainPosition, Rejection};
pub use statement::{Statement, StatementError};
pub use trust::{Anchors, Revocations, TrustError};
pub use verify::{MissingCrl, Options, Signer, StaleCrl, Verifier};

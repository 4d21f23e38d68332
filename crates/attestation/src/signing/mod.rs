//! The signer's side: keys, commands that hold keys, the block that they make, and an authority that vouches for signers. For
//! people at a command line; no server sees any of it.
//!
//! - [`sign`] makes a block by a [`SigningKey`]; [`with_attestation`] writes it into a manifest's text.
//! - [`NewKey`] and [`KeyFile`] are keys to be written and keys as they were read.
//! - [`authority`] issues and revokes certificates.

pub mod atomic;
pub mod authority;
mod block;
mod command;
mod edit;
mod group;
mod key;
mod text;

pub use block::{SignError, SigningKey, read_certificates, sign};
pub use command::{SignerCommand, SignerError, SignerInput};
pub use edit::{EditError, with_attestation};
pub use key::{EncryptedKey, KeyError, KeyFile, NewKey, PrivateKey};
pub use text::detached;

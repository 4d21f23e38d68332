//! Why an authority does not do what it is asked, each with what to do about it.

use std::io;
use std::path::PathBuf;

use time::OffsetDateTime;

use crate::certificate::CertificateFault;
use crate::signing::key::KeyError;

/// Why an authority does not do what it is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// There is one already.
    #[error("`{0}` is there already; an authority begins in a folder of its own")]
    Exists(PathBuf),
    /// There is none.
    #[error("`{0}` is no folder of an authority; make one with `mentat pki init`")]
    Missing(PathBuf),
    /// Another process has it for too long.
    #[error("another process is changing the authority `{0}`; try again when it has ended")]
    Locked(PathBuf),
    /// A file cannot be read or written.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than it can be.
    #[error("`{path}` has more than {limit} bytes, the limit")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most.
        limit: u64,
    },
    /// A key that others can read.
    #[error("`{0}` can be read by others than its owner; take that away with `chmod 600`")]
    Exposed(PathBuf),
    /// The index is damaged.
    #[error("the index `authority.json` cannot be read: {0}")]
    Index(String),
    /// The index is of another version.
    #[error("the index `authority.json` has the version {found}, and this program knows {known}")]
    Version {
        /// What it has.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// A key of the authority does not open or is not its.
    #[error("the key `{path}`: {source}")]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// A certificate of its own that cannot be read.
    #[error("the certificate `{path}`: {fault}")]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        fault: CertificateFault,
    },
    /// A key that belongs to another certificate.
    #[error("the key `{0}` does not belong to the certificate beside it")]
    WrongKey(PathBuf),
    /// Not an address.
    #[error("`{0}` is no email address; write it as `alice@example.com`")]
    Email(String),
    /// Not a name.
    #[error(
        "`{name}` cannot stand in a certificate; a name has 1 to {limit} characters, none of them a control character, and no blanks around it"
    )]
    Name {
        /// What was given.
        name: String,
        /// Characters at most.
        limit: usize,
    },
    /// Not an object identifier.
    #[error("`{0}` is no certificate policy; write its object identifier, such as `1.3.6.1.4.1.57264.1`")]
    Policy(String),
    /// Too many of them.
    #[error("a certificate states {0} policies at most")]
    Policies(usize),
    /// A certificate request that does not hold.
    #[error(
        "the certificate request cannot be used: {0}; `mentat keygen --csr` and `openssl req -new` make one"
    )]
    Request(String),
    /// The intermediate authority no longer holds.
    #[error("the intermediate authority ended at {0}; certify it anew with `mentat pki renew`")]
    Ended(OffsetDateTime),
    /// The root no longer holds.
    #[error("the root ended at {0}; make a new authority with `mentat pki init`")]
    RootEnded(OffsetDateTime),
    /// The intermediate authority was revoked.
    #[error("the intermediate authority is revoked; make a new authority with `mentat pki init`")]
    IssuerRevoked,
    /// No such certificate.
    #[error(
        "there is no certificate `{0}` that holds; `mentat pki list` shows all, with their serial numbers"
    )]
    Unknown(String),
    /// More than one.
    #[error("several certificates of `{0}` hold; give the serial number, which `mentat pki list` shows")]
    Several(String),
    /// It was revoked before.
    #[error("the certificate `{0}` is revoked already")]
    AlreadyRevoked(String),
    /// A root cannot be revoked by itself.
    #[error("a root cannot be revoked; take it out of what operators trust")]
    Root,
    /// The machine gave no randomness.
    #[error("the machine gives no randomness")]
    NoRandomness,
    /// What was to be a certificate or a list could not be encoded or signed.
    #[error("it could not be encoded: {0}")]
    Encoding(String),
}

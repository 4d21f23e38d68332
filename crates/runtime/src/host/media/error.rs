//! What can go wrong with media, told once for all ways to ask for them. What the store itself said is for the server's
//! log: it may name buckets, paths and hosts that are the operator's.

use std::io;
use std::time::Duration;

use mentat_manifest::ByteCount;

use crate::host::abi::AbiError;
use crate::host::capabilities::CallError;
use crate::security::denial::Denial;

/// Why an object is not read or not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MediaError {
    #[error("{0}")]
    Denied(Denial),
    #[error(
        "there is no media store here; the operator of a server has one in its data directory or names one by \
         `media.dir` or `media.bucket`, a user of `mentat run` by `--media DIR`"
    )]
    NoStore,
    #[error("{0}")]
    Malformed(String),
    #[error("there is no object `{0}`")]
    NotFound(String),
    #[error("the media store is not the bucket `{0}`; `media://NAME` refers to what is in the store")]
    OtherBucket(String),
    #[error("the {what} has more than {limit}, which is the limit{advice}")]
    TooLarge { what: &'static str, limit: ByteCount, advice: &'static str },
    #[error("the media store is full for this tenant: {0} are the limit (`media.bytes_per_tenant`)")]
    Full(ByteCount),
    #[error("{0}")]
    TooMany(String),
    #[error("the handle is none that was given out, or was given back")]
    BadHandle,
    #[error("the media store did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("the media store failed; the server's log says why")]
    Unavailable,
    #[error("the content of `{0}` is not what its digest says; it is not handed out")]
    Damaged(String),
    #[error("`{0}` was changed while it was read")]
    Changed(String),
}

impl MediaError {
    /// What a store said about an object; what nobody but the operator should know is told to them.
    pub(super) fn of(
        error: object_store::Error,
        reference: &str,
        tell: impl FnOnce(&object_store::Error),
    ) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound(reference.to_owned()),
            object_store::Error::Precondition { .. } => Self::Changed(reference.to_owned()),
            object_store::Error::InvalidPath { .. } => {
                Self::Malformed(format!("`{reference}` is no name that this store can have"))
            }
            // Guests can ask for such as often as they like.
            error if is_no_file(&error) => Self::NotFound(reference.to_owned()),
            error => {
                tell(&error);
                Self::Unavailable
            }
        }
    }
}

/// Whether a name leads through a file, or to a directory.
fn is_no_file(error: &object_store::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kinds =
                [io::ErrorKind::NotADirectory, io::ErrorKind::IsADirectory, io::ErrorKind::InvalidFilename];
            return kinds.contains(&error.kind());
        }
        cause = error.source();
    }
    false
}

impl From<Denial> for MediaError {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<MediaError> for CallError {
    fn from(error: MediaError) -> Self {
        let code = match &error {
            MediaError::Denied(denial) => return denial.clone().into(),
            MediaError::NoStore => AbiError::Unsupported,
            MediaError::Malformed(_) => AbiError::Malformed,
            MediaError::NotFound(_) | MediaError::OtherBucket(_) => AbiError::NotFound,
            MediaError::TooLarge { .. } => AbiError::TooLarge,
            MediaError::Full(_) | MediaError::TooMany(_) => AbiError::Exhausted,
            MediaError::BadHandle => AbiError::BadHandle,
            MediaError::TimedOut(_) => AbiError::TimedOut,
            MediaError::Unavailable | MediaError::Damaged(_) | MediaError::Changed(_) => {
                AbiError::Unavailable
            }
        };
        Self::new(code, error.to_string())
    }
}

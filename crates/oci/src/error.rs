//! What can go wrong with a registry, by who has to do something about it. Messages are safe to show: what a registry said
//! is bounded and escaped, and credentials are in none of them.

/// Why something was not pulled or pushed. Each holds a whole sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OciError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The rules do not allow it.
    #[error("{0}")]
    Denied(String),
    /// The registry does not have it.
    #[error("{0}")]
    NotFound(String),
    /// The registry wants other credentials.
    #[error("{0}")]
    Unauthorized(String),
    /// What the registry sent is not what it should be.
    #[error("{0}")]
    Untrusted(String),
    /// The registry does not answer, or not in time, or has too much to do.
    #[error("{0}")]
    Unavailable(String),
    /// Something of this machine's own does not work.
    #[error("{0}")]
    Local(String),
}

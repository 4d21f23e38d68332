//! What can go wrong on the way to a host, told once for the core ABI's calls and for `wasi:http`.

use std::io;

use mentat_manifest::escape_untrusted;
use wasmtime_wasi_http::Error as WasiError;

use crate::host::abi::AbiError;
use crate::host::capabilities::CallError;
use crate::security::denial::Denial;

/// Characters of what a host or a name server said.
const MAX_SAID_CHARS: usize = 300;

/// Why a host was not reached, or its answer is not passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("{0}")]
    Denied(Denial),
    #[error("{0}")]
    Malformed(String),
    #[error("the name `{0}` has no address")]
    NoSuchName(String),
    #[error("looking up `{name}`: {message}")]
    LookUp { name: String, message: String },
    #[error(
        "`{0}` leads to no public address; ask for it by number, or have the operator list its network under \
         `network.reachable` or its name under `network.hosts`"
    )]
    Prohibited(String),
    #[error(
        "this execution has {0} connections open, which is its limit (`network.connections`); close one first"
    )]
    TooMany(u32),
    #[error("{what} took too long, with `{host}`")]
    Timeout { what: &'static str, host: String },
    #[error("`{host}` cannot be reached: {source}")]
    Unreachable { host: String, source: io::Error },
    #[error("no encrypted connection with `{host}`: {message}")]
    Tls { host: String, message: String },
    #[error("the exchange with the host broke off: {0}")]
    Http(#[from] hyper::Error),
    #[error("the body of the {what} has more than {limit} bytes")]
    TooLarge { what: &'static str, limit: u64 },
    #[error(
        "the response is {0}, in which a secret that it repeats could not be masked; it is not passed on"
    )]
    Encoded(&'static str),
    #[error("a secret cannot stand in the header `{0}`: its value holds bytes that no header may hold")]
    UnfitSecret(String),
}

impl NetworkError {
    /// For the guest's log: with what caused it.
    pub(crate) fn tell(&self) -> String {
        let mut told = self.to_string();
        if let Self::Http(error) = self
            && let Some(cause) = std::error::Error::source(error)
        {
            told.push_str(&format!(": {cause}"));
        }
        escape_untrusted(&told, MAX_SAID_CHARS * 4)
    }

    /// The words of somebody else, cut and escaped.
    pub(crate) fn said(text: &str) -> String {
        escape_untrusted(text, MAX_SAID_CHARS)
    }
}

impl From<NetworkError> for CallError {
    fn from(error: NetworkError) -> Self {
        let code = match &error {
            NetworkError::Denied(denial) => return denial.clone().into(),
            NetworkError::Malformed(_) | NetworkError::UnfitSecret(_) => AbiError::Malformed,
            NetworkError::NoSuchName(_) => AbiError::NotFound,
            NetworkError::Prohibited(_) => AbiError::Denied,
            NetworkError::TooMany(_) => AbiError::Exhausted,
            NetworkError::TooLarge { .. } => AbiError::TooLarge,
            NetworkError::Timeout { .. } => AbiError::TimedOut,
            NetworkError::LookUp { .. }
            | NetworkError::Unreachable { .. }
            | NetworkError::Tls { .. }
            | NetworkError::Http(_)
            | NetworkError::Encoded(_) => AbiError::Unavailable,
        };
        Self::new(code, error.tell())
    }
}

impl From<NetworkError> for WasiError {
    fn from(error: NetworkError) -> Self {
        match error {
            NetworkError::Denied(_) => Self::HttpRequestDenied,
            NetworkError::Malformed(_) | NetworkError::UnfitSecret(_) => Self::HttpRequestUriInvalid,
            NetworkError::NoSuchName(name) => {
                Self::DnsError { rcode: Some(format!("`{name}` has no address")), info_code: None }
            }
            NetworkError::LookUp { message, .. } => Self::DnsError { rcode: Some(message), info_code: None },
            NetworkError::Prohibited(_) => Self::DestinationIpProhibited,
            NetworkError::TooMany(_) => Self::ConnectionLimitReached,
            NetworkError::Timeout { what: "connecting" | "agreeing on encryption", .. } => {
                Self::ConnectionTimeout
            }
            NetworkError::Timeout { .. } => Self::ConnectionReadTimeout,
            NetworkError::Unreachable { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                Self::ConnectionRefused
            }
            NetworkError::Unreachable { source, .. } => Self::Connect(source),
            NetworkError::Tls { .. } => Self::TlsCertificateError,
            NetworkError::Http(error) => Self::Hyper(error),
            NetworkError::TooLarge { what: "request", limit } => Self::HttpRequestBodySize(Some(limit)),
            NetworkError::TooLarge { limit, .. } => Self::HttpResponseBodySize(Some(limit)),
            NetworkError::Encoded(encoding) => Self::HttpResponseContentCoding(Some(encoding.into())),
        }
    }
}

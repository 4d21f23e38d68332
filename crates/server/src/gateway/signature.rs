//! Who signed an agent, as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::bodies::milliseconds;
use crate::store::StoredAgent;

/// Who signed an agent, how far that is trusted, and whether it may run by that.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignatureBody {
    /// `untrusted`, `signed`, `community` or `verified`.
    trust: &'static str,
    /// Where a signature holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<SignerBody>,
    /// Why the agent may not run, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
    /// The same in a sentence; or, where it may run, what the operator should know of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Who signed an agent, by their certificate.
#[derive(Debug, Serialize, ToSchema)]
struct SignerBody {
    /// What policies and records call the signer: the certificate's email address, its common name, or its subject.
    name: String,
    /// The certificate's subject (RFC 4514).
    subject: String,
    /// Who issued it (RFC 4514).
    issuer: String,
    /// The certificate's fingerprint, `sha256:` and 64 hexadecimal digits.
    fingerprint: String,
    /// How the agent is signed, such as `ECDSA-P256`.
    algorithm: &'static str,
    /// When it was signed, as the signer says; milliseconds since 1970.
    signed_at_ms: u64,
    /// When the certificate begins to be valid; milliseconds since 1970.
    not_before_ms: u64,
    /// The last second in which it is; milliseconds since 1970.
    not_after_ms: u64,
}

impl SignatureBody {
    /// As was last found.
    pub(super) fn new(agent: &StoredAgent) -> Self {
        let standing = agent.standing.last();
        let (refused, message) = standing.told();
        let signer = standing.signer().map(|signer| SignerBody {
            name: signer.name().to_owned(),
            subject: signer.subject.clone(),
            issuer: signer.issuer.clone(),
            fingerprint: signer.fingerprint.clone(),
            algorithm: signer.algorithm.name(),
            signed_at_ms: milliseconds(signer.signed_at),
            not_before_ms: milliseconds(signer.not_before),
            not_after_ms: milliseconds(signer.not_after),
        });
        Self {
            trust: standing.trust().as_str(),
            signer,
            refused: Some(refused).filter(|code| !code.is_empty()),
            message: Some(message).filter(|message| !message.is_empty()),
        }
    }
}

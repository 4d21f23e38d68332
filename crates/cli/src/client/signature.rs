//! Who signed an agent, as a server tells it.

use mentat_proto::v1::AgentSignature;
use serde::Serialize;

use super::milliseconds_since_epoch;

/// Who signed an agent, how far the server trusts that, and whether it may run by that.
#[derive(Debug, Default, Serialize)]
pub(crate) struct SignatureReport {
    /// `untrusted`, `signed`, `community` or `verified`; empty where the server does not say.
    pub(crate) trust: String,
    /// Where a signature holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signer: Option<SignerReport>,
    /// Why it may not run, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
    /// The same in a sentence, or what else there is to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// Who signed an agent, by their certificate.
#[derive(Debug, Default, Serialize)]
pub(crate) struct SignerReport {
    pub(crate) name: String,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) fingerprint: String,
    pub(crate) algorithm: String,
    /// Since 1970, in milliseconds, as all times here.
    pub(crate) signed_at_ms: u64,
    pub(crate) not_before_ms: u64,
    pub(crate) not_after_ms: u64,
}

impl SignatureReport {
    /// For people: the trust, and who signed or why it may not run.
    pub(crate) fn line(&self) -> String {
        match (&self.refused, &self.signer) {
            (Some(code), _) => format!("refused: {code}"),
            (None, Some(signer)) => format!("{} {}", self.trust, signer.name),
            (None, None) => self.trust.clone(),
        }
    }
}

impl From<AgentSignature> for SignatureReport {
    fn from(told: AgentSignature) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let time = |time: Option<prost_types::Timestamp>| {
            time.map_or(0, |time| milliseconds_since_epoch(time.seconds, time.nanos))
        };
        let signer = given(told.signer).map(|name| SignerReport {
            name,
            subject: told.subject,
            issuer: told.issuer,
            fingerprint: told.fingerprint,
            algorithm: told.algorithm,
            signed_at_ms: time(told.signed_at),
            not_before_ms: time(told.not_before),
            not_after_ms: time(told.not_after),
        });
        Self { trust: told.trust, signer, refused: given(told.refused), message: given(told.message) }
    }
}

//! Why an attestation is not accepted: one variant a cause, each with a code that does not change and a sentence that says
//! what to do. What strangers wrote is escaped before it gets in here.

use chrono::DateTime;

use crate::algorithm::{Algorithm, UnknownAlgorithm};
use crate::certificate::CertificateFault;
use crate::public_key::KeyFault;
use crate::statement::StatementError;

/// One certificate of a chain, as an error names it: its place, the signer's being 1, and its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainPosition {
    /// From 1; 0 is the trusted root.
    pub number: usize,
    /// Its subject, by RFC 4514.
    pub subject: String,
}

impl std::fmt::Display for ChainPosition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number {
            0 => write!(formatter, "the root certificate (`{}`)", self.subject),
            number => write!(formatter, "certificate {number} (`{}`)", self.subject),
        }
    }
}

/// Why an attestation is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The block is of another form.
    #[error("`attestation.version` is `{0}`, of which nothing is known here; it must be `1.0`")]
    Version(String),
    /// There is nothing that could have been signed.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// No time of signing.
    #[error("`attestation.timestamp` is `{0}`, which is no time by RFC 3339, such as `2026-01-31T12:00:00Z`")]
    Timestamp(String),
    /// Signed later than now.
    #[error("it was signed at {}, which is still to come; set the clock of this machine or of the signer's right", time(*.0))]
    SignedInFuture(i64),
    /// None of the algorithms.
    #[error("`attestation.algorithm` is `{name}`; {fault}")]
    Algorithm {
        /// As the block has it.
        name: String,
        /// What it must be.
        fault: UnknownAlgorithm,
    },
    /// The block names another algorithm than the signer's key has.
    #[error("`attestation.algorithm` is `{declared}`, but the signer's key is one of `{key}`; sign it again")]
    AlgorithmMismatch {
        /// By the block.
        declared: Algorithm,
        /// By the certificate.
        key: Algorithm,
    },
    /// The signature is no base64, or too long.
    #[error("`attestation.signature` is no base64 of a signature; sign it again")]
    SignatureMalformed,
    /// The signature is not over this manifest and this module by this key.
    #[error(
        "the signature does not match: the manifest or the module was changed after signing, or the key is not the \
         certificate's; sign it again"
    )]
    SignatureMismatch,
    /// The block names somebody else than the certificate.
    #[error("`attestation.signer.{field}` is `{said}`, but the certificate has `{is}`; sign it again")]
    SignerMismatch {
        /// `subject` or `issuer`.
        field: &'static str,
        /// By the block.
        said: String,
        /// By the certificate.
        is: String,
    },
    /// No certificates.
    #[error(
        "`attestation.certificate_chain` is empty; it must have the signer's certificate, then those above it"
    )]
    ChainEmpty,
    /// Too many certificates.
    #[error("the chain has {0} certificates, which is more than {max}", max = crate::chain::MAX_CHAIN)]
    ChainTooLong(usize),
    /// What one of the entries is not.
    #[error("certificate {number} of the chain: {fault}")]
    Certificate {
        /// Its place, from 1.
        number: usize,
        /// What is wrong.
        fault: CertificateFault,
    },
    /// The chain has one certificate, or one authority, twice.
    #[error("{0} stands twice in the chain; each certificate is followed by its issuer's, once")]
    ChainLoop(ChainPosition),
    /// A certificate that is not followed by its issuer's.
    #[error(
        "{0} was issued by `{1}`, which is not what follows it in the chain; put each before its issuer's"
    )]
    ChainBroken(ChainPosition, String),
    /// A certificate with the issuer's name in other bytes than the issuer has it.
    #[error(
        "{0} has the name of its issuer, `{1}`, in other bytes than the issuer's certificate does (strings of another type, or \
         other capital letters), so that it is another's; have it issued again with the name as it stands there"
    )]
    IssuerMisnamed(ChainPosition, String),
    /// The chain leads to nobody who is trusted.
    #[error("{0} was issued by `{1}`, which is not among the trusted roots; the operator can add it to them")]
    UntrustedIssuer(ChainPosition, String),
    /// A certificate that its issuer did not sign.
    #[error("a certificate of the chain was not signed by the key of its issuer; have it issued again")]
    CertificateForged,
    /// A certificate that was signed by an algorithm that can be forged.
    #[error("{0} is signed with {1}, which can be forged; have it issued again with SHA-256 or better")]
    WeakSignature(ChainPosition, String),
    /// A key that is weak, of another kind, or too large.
    #[error("the key of {0} is not taken: {1}")]
    Key(ChainPosition, KeyFault),
    /// A certificate whose time is over.
    #[error("{0} expired at {time}; have a new one issued and sign again", time = time(*.1))]
    Expired(ChainPosition, i64),
    /// A certificate whose time is to come.
    #[error("{0} is not valid before {time}; wait, or set the clock right", time = time(*.1))]
    NotYetValid(ChainPosition, i64),
    /// A certificate that was not valid when the agent was signed.
    #[error("{0} was not valid at {time}, when the agent was signed; sign it again", time = time(*.1))]
    NotValidWhenSigned(ChainPosition, i64),
    /// A key that was not issued for what it was used for.
    #[error("{0} lacks the key usage `{1}`; have one issued that has it")]
    KeyUsage(ChainPosition, &'static str),
    /// A certificate that is not for signing code.
    #[error("{0} is not for signing code: {1}; have one issued with the extended key usage `codeSigning`")]
    ExtendedKeyUsage(ChainPosition, &'static str),
    /// A certificate that is none of an authority, where one must be.
    #[error("{0} has issued another, but is not that of an authority (`CA:TRUE`)")]
    NotAnAuthority(ChainPosition),
    /// An authority that signs agents itself.
    #[error("{0} is that of an authority, which must not sign agents; have one issued to the signer")]
    AuthorityAsSigner(ChainPosition),
    /// More authorities below one than it may have.
    #[error(
        "{0} may not have so many authorities below it (`pathlen`), those counted that an authority has issued for itself"
    )]
    PathLength(ChainPosition),
    /// A name that an authority may not issue certificates for.
    #[error(
        "a name in the chain is outside what its authorities may issue for (name constraints), or constrained in a way that is \
         not evaluated here: only DNS names and IP addresses are"
    )]
    NameConstraints,
    /// The chain is outside what is evaluated here.
    #[error("the chain cannot be verified: {0}")]
    Unverifiable(String),
    /// A certificate that its issuer has taken back.
    #[error("{0}, of serial number `{1}`, was revoked by its issuer; sign again with one that was not")]
    Revoked(ChainPosition, String),
    /// No list says whether a certificate was revoked, and one must.
    #[error(
        "nothing says whether {0} was revoked: the operator has no revocation list (CRL) of its issuer `{1}`"
    )]
    RevocationUnknown(ChainPosition, String),
    /// A list that is about a certificate and cannot be evaluated for it.
    #[error(
        "a revocation list (CRL) may be about {0}, and writes the name of its issuer `{1}` in other bytes than the certificate \
         does; have the list issued with the name as it stands in the certificate"
    )]
    RevocationMisnamed(ChainPosition, String),
    /// Lists whose time is to come, and none beside them.
    #[error(
        "the revocation list (CRL) about {0} is not valid before {time}; wait, set the clock right, or get the list that is \
         valid now", time = time(*.1)
    )]
    RevocationNotYetValid(ChainPosition, i64),
    /// A list whose time is over.
    #[error("the revocation list (CRL) of an issuer was to be replaced by {time}; the operator must get the next one", time = time(*.0))]
    RevocationStale(i64),
    /// A list that its issuer did not sign, or may not sign.
    #[error(
        "the revocation list (CRL) of an issuer was not signed by its key, or its key may not sign lists; get it anew"
    )]
    RevocationForged,
}

impl Rejection {
    /// The cause in one word, which never changes: for metrics, records and scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Version(_) => "version_unknown",
            Self::Statement(_) => "manifest_unsignable",
            Self::Timestamp(_) => "timestamp_malformed",
            Self::SignedInFuture(_) => "signed_in_future",
            Self::Algorithm { .. } => "algorithm_unknown",
            Self::AlgorithmMismatch { .. } => "algorithm_mismatch",
            Self::SignatureMalformed => "signature_malformed",
            Self::SignatureMismatch => "signature_mismatch",
            Self::SignerMismatch { .. } => "signer_mismatch",
            Self::ChainEmpty => "chain_empty",
            Self::ChainTooLong(_) => "chain_too_long",
            Self::Certificate { .. } => "certificate_malformed",
            Self::ChainLoop(_) => "chain_loop",
            Self::ChainBroken(..) => "chain_broken",
            Self::IssuerMisnamed(..) => "issuer_misnamed",
            Self::UntrustedIssuer(..) => "untrusted_issuer",
            Self::CertificateForged => "certificate_forged",
            Self::WeakSignature(..) => "weak_signature",
            Self::Key(..) => "key_refused",
            Self::Expired(..) => "certificate_expired",
            Self::NotYetValid(..) => "certificate_not_yet_valid",
            Self::NotValidWhenSigned(..) => "not_valid_when_signed",
            Self::KeyUsage(..) => "key_usage",
            Self::ExtendedKeyUsage(..) => "extended_key_usage",
            Self::NotAnAuthority(_) => "not_an_authority",
            Self::AuthorityAsSigner(_) => "authority_as_signer",
            Self::PathLength(_) => "path_length",
            Self::NameConstraints => "name_constraints",
            Self::Unverifiable(_) => "chain_unverifiable",
            Self::Revoked(..) => "certificate_revoked",
            Self::RevocationUnknown(..) => "revocation_unknown",
            Self::RevocationMisnamed(..) => "revocation_misnamed",
            Self::RevocationNotYetValid(..) => "revocation_not_yet_valid",
            Self::RevocationStale(_) => "revocation_stale",
            Self::RevocationForged => "revocation_forged",
        }
    }
}

/// Seconds since 1970 by RFC 3339.
fn time(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0).map_or_else(
        || format!("{seconds} s after 1970"),
        |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use super::*;
    use crate::sigstore::SigstoreError;

    /// One of each, with what stands in a sentence about it.
    fn all() -> Vec<Rejection> {
        let signer = || ChainPosition { number: 1, subject: "CN=Dev".into() };
        let issuer = || ChainPosition { number: 2, subject: "CN=Issuer".into() };
        let noon = 1_780_315_200;
        vec![
            Rejection::Version("\"2.0\"".into()),
            Rejection::Statement(StatementError::DigestGiven),
            Rejection::Timestamp("yesterday".into()),
            Rejection::SignedInFuture(noon),
            Rejection::Algorithm { name: "SHA1withRSA".into(), fault: UnknownAlgorithm },
            Rejection::AlgorithmMismatch { declared: Algorithm::RsaSha256, key: Algorithm::EcdsaP256 },
            Rejection::SignatureMalformed,
            Rejection::SignatureMismatch,
            Rejection::SignerMismatch { field: "subject", said: "CN=Boss".into(), is: "CN=Dev".into() },
            Rejection::ChainEmpty,
            Rejection::ChainTooLong(1000),
            Rejection::Certificate { number: 1, fault: CertificateFault::NoPem },
            Rejection::ChainLoop(issuer()),
            Rejection::ChainBroken(signer(), "CN=Issuer".into()),
            Rejection::IssuerMisnamed(signer(), "CN=Issuer".into()),
            Rejection::UntrustedIssuer(issuer(), "CN=Root".into()),
            Rejection::CertificateForged,
            Rejection::WeakSignature(signer(), "SHA-1 with RSA".into()),
            Rejection::Key(signer(), KeyFault::RsaBits(1024)),
            Rejection::Expired(signer(), noon),
            Rejection::NotYetValid(signer(), noon),
            Rejection::NotValidWhenSigned(signer(), noon),
            Rejection::KeyUsage(signer(), "digitalSignature"),
            Rejection::ExtendedKeyUsage(signer(), "it is for other uses"),
            Rejection::NotAnAuthority(issuer()),
            Rejection::AuthorityAsSigner(signer()),
            Rejection::PathLength(issuer()),
            Rejection::NameConstraints,
            Rejection::Unverifiable("a certificate is signed by an algorithm that is not taken".into()),
            Rejection::Revoked(signer(), "1267".into()),
            Rejection::RevocationUnknown(signer(), "CN=Issuer".into()),
            Rejection::RevocationMisnamed(signer(), "CN=Issuer".into()),
            Rejection::RevocationNotYetValid(signer(), noon),
            Rejection::RevocationStale(noon),
            Rejection::RevocationForged,
        ]
    }

    #[test]
    fn the_page_of_rejections_is_as_it_is_made() {
        let mut made = String::from(
            "# Rejections\n\nWhy an attestation is not accepted. The code never changes: metrics, records and scripts can go by it. \
             The sentence tells the rest; here are examples. Over each door, the reason is `ATTESTATION_REJECTED` \
             ([errors](errors.md)).\n\nA chain is named from the signer's certificate, which is number 1, upwards. What is signed, \
             and what is checked in which order, stands in \
             [decision 11](decisions/0011-attestation.md).\n\n| code | sentence |\n|---|---|\n",
        );
        for rejection in all() {
            let _ = writeln!(made, "| `{}` | {rejection} |", rejection.code());
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rejections.md");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == made, "docs/rejections.md is stale; run the tests with UPDATE_EXPECT=1");
    }

    #[test]
    fn each_cause_has_a_code_of_its_own_and_a_sentence_in_the_house_style() {
        let all = all();
        let codes: BTreeSet<&str> = all.iter().map(Rejection::code).collect();
        assert_eq!(codes.len(), all.len());
        for rejection in all {
            let sentence = rejection.to_string();
            assert!(!sentence.ends_with('.') && !sentence.contains('\n'), "{sentence}");
            assert!(rejection.code().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        }
        assert!(!SigstoreError::NotSigned.to_string().ends_with('.'));
    }
}

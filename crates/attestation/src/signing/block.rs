//! Makes an attestation: the block that a manifest carries, out of a key and the certificates that vouch for it. Knows no
//! files, and no clock.
//!
//! Invariant: a block is given out only after it was verified as whoever loads the agent will, with the topmost of its own
//! certificates taken for a root.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use mentat_manifest::{Attestation, ModuleDigest, Signer};
use pkcs8::der::pem::{LineEnding, encode_string};
use rcgen::PublicKeyData as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::certificate::{Certificate, CertificateFault};
use crate::chain::MAX_CHAIN;
use crate::public_key::KeyFault;
use crate::rejection::Rejection;
use crate::signing::command::{SignerCommand, SignerError};
use crate::signing::key::{KeyError, PrivateKey};
use crate::statement::{Statement, StatementError};
use crate::trust::{Anchors, Revocations, TrustError};
use crate::verify::{Options, Verifier};

/// Version of the block that is written.
const VERSION: &str = "1.0";

/// What signs.
#[derive(Debug)]
pub enum SigningKey {
    /// A key that is held here.
    Held(Box<PrivateKey>),
    /// A command that reaches a key which is held elsewhere.
    Command(SignerCommand),
}

/// Why an agent is not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The signer's certificate alone, or none.
    #[error(
        "there must be the signer's certificate and that of the authority which issued it; give the second by `--chain`"
    )]
    NoIssuer,
    /// The topmost certificate cannot certify.
    #[error("the last of the certificates cannot be an authority's: {0}")]
    Issuer(#[from] TrustError),
    /// A key in the certificate that cannot sign.
    #[error("the key of the signer's certificate is not taken: {0}")]
    Certificate(#[from] KeyFault),
    /// A key that is not the certificate's.
    #[error(
        "the key does not belong to the first of the certificates, of `{0}`; give the certificate that was issued for it"
    )]
    WrongKey(String),
    /// A manifest that cannot be signed.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The key did not sign.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The command did not sign.
    #[error(transparent)]
    Command(#[from] SignerError),
    /// The command signed something else, or with another key.
    #[error(
        "what the signer command wrote is no signature by the key of the certificate over what it was given; it must be the raw signature (ECDSA in ASN.1) by `{0}`"
    )]
    NoSignature(Algorithm),
    /// Whoever loads the agent would refuse it.
    #[error("nobody would accept this signature: {0}")]
    Rejected(#[from] Rejection),
    /// A certificate could not be written as PEM.
    #[error("a certificate could not be written as PEM")]
    Encoding,
}

/// The certificates of a PEM file, in its order: a signer's, and perhaps those above it.
///
/// # Errors
/// When there are none, too many, or one that cannot be read.
pub fn read_certificates(pem: &[u8]) -> Result<Vec<Certificate>, CertificateFault> {
    let mut certificates = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem) {
        if certificates.len() == MAX_CHAIN {
            return Err(CertificateFault::TooLarge);
        }
        certificates.push(Certificate::from_der(&der.map_err(|_| CertificateFault::NoPem)?)?);
    }
    if certificates.is_empty() { Err(CertificateFault::NoPem) } else { Ok(certificates) }
}

/// Signs a manifest and its module. `chain` is the signer's certificate and those of the authorities above it, each before
/// its issuer's; a root at its end is not written into the block.
///
/// # Errors
/// When the key does not sign or is not the certificate's, and when the block would not be accepted.
pub fn sign(
    manifest: &str,
    module: &ModuleDigest,
    key: &SigningKey,
    chain: &[Certificate],
    now: SystemTime,
) -> Result<Attestation, SignError> {
    let (Some(signer), Some(top)) = (chain.first(), chain.get(1..).and_then(<[Certificate]>::last)) else {
        return Err(SignError::NoIssuer);
    };
    let mut anchors = Anchors::default();
    anchors.add(top.as_der())?;
    let public = signer.public_key()?;
    let statement = Statement::new(manifest, module)?;
    let signature = match key {
        SigningKey::Held(key) => {
            if key.subject_public_key_info() != public.as_der() {
                return Err(SignError::WrongKey(signer.subject()));
            }
            key.sign(statement.canonical())?
        }
        SigningKey::Command(command) => {
            let signature = command.sign(public.algorithm(), statement.canonical())?;
            if public.verify(statement.canonical(), &signature).is_err() {
                return Err(SignError::NoSignature(public.algorithm()));
            }
            signature
        }
    };
    let is_root = top.subject_der == top.issuer_der;
    let written = chain.get(..chain.len() - usize::from(is_root)).unwrap_or_default();
    let attestation = Attestation {
        version: Value::from(VERSION),
        timestamp: DateTime::<Utc>::from(now).to_rfc3339_opts(SecondsFormat::Secs, true),
        signer: Signer { subject: signer.subject(), issuer: signer.issuer() },
        algorithm: public.algorithm().name().to_owned(),
        signature: STANDARD.encode(signature),
        certificate_chain: written.iter().map(pem).collect::<Result<_, _>>()?,
    };
    let verifier = Verifier::new(anchors, Revocations::default(), Options::default());
    verifier.verify(manifest, &attestation, module, now)?;
    Ok(attestation)
}

fn pem(certificate: &Certificate) -> Result<String, SignError> {
    encode_string("CERTIFICATE", LineEnding::LF, certificate.as_der()).map_err(|_| SignError::Encoding)
}

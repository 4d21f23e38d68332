//! One certificate, read and bounded: what it says, in words that the rest can compare. Knows nothing of chains, and trusts
//! nothing: whose it is, `chain` finds out.
//!
//! Invariant: what is read here is a certificate of version 3 by RFC 5280 in which no extension stands twice, and with text
//! that can be shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Version;

use crate::name::{Name, is_plain};
use crate::public_key::{KeyFault, PublicKey};

/// Bytes of a certificate; those of people and authorities have one or two thousand.
const MAX_CERTIFICATE_BYTES: usize = 16 << 10;
/// Bytes of a certificate as PEM, with the text that some tools write before it.
const MAX_PEM_BYTES: usize = 64 << 10;
/// Policies that a certificate is issued under.
const MAX_POLICIES: usize = 32;
/// Bytes of a serial number (RFC 5280, section 4.1.2.2), with the zero that keeps it positive.
const MAX_SERIAL_BYTES: usize = 21;

const COMMON_NAME: &str = "2.5.4.3";
const ORGANISATION: &str = "2.5.4.10";
pub(crate) const EMAIL_ADDRESS: &str = "1.2.840.113549.1.9.1";

/// A certificate as it was read; nothing is known of whether it is true.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) subject: Name,
    pub(crate) issuer: Name,
    /// The names as they are compared by: their bytes.
    pub(crate) subject_der: Vec<u8>,
    pub(crate) issuer_der: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) validity: Validity,
    pub(crate) key: Result<PublicKey, KeyFault>,
    /// The object identifier of the algorithm that it is signed by.
    pub(crate) signed_by: String,
    /// Whether it may issue others, and how many authorities deep.
    pub(crate) authority: Option<PathLength>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_key_usage: Option<ExtendedKeyUsage>,
    pub(crate) authority_key: Option<Vec<u8>>,
    /// None where it says nothing of policies.
    pub(crate) policies: Option<Vec<String>>,
    pub(crate) email: Option<String>,
    /// Whether it says which email addresses those below it may have.
    pub(crate) constrains_emails: bool,
}

/// From when to when, in seconds since 1970; both belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

/// How many authorities may stand below one; any number where it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathLength(pub(crate) Option<u32>);

/// Those of its key's uses that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyUsage {
    pub(crate) digital_signature: bool,
    pub(crate) certificate_sign: bool,
    pub(crate) crl_sign: bool,
}

/// What its key is meant for, so far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtendedKeyUsage {
    pub(crate) code_signing: bool,
    pub(crate) any: bool,
}

/// Why bytes are not a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// More bytes than a certificate has.
    #[error("it has more than {MAX_CERTIFICATE_BYTES} bytes")]
    TooLarge,
    /// No PEM, or not of one certificate.
    #[error("it is not one certificate in PEM (`BEGIN CERTIFICATE`)")]
    NoPem,
    /// Not DER of a certificate.
    #[error("it is no X.509 certificate of version 3 that can be read")]
    Malformed,
    /// An extension that stands twice, or that cannot be read.
    #[error("its extension `{0}` is malformed or stands twice")]
    Extension(&'static str),
    /// Characters that hide or reverse others, or too many.
    #[error("its {0} has too many characters, or such as cannot be shown")]
    Name(&'static str),
}

impl Certificate {
    /// The one certificate in a PEM text.
    ///
    /// # Errors
    /// Anything else.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateFault> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(CertificateFault::TooLarge);
        }
        let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
        match (certificates.next(), certificates.next()) {
            (Some(Ok(der)), None) => Self::from_der(&der),
            _ => Err(CertificateFault::NoPem),
        }
    }

    /// A certificate out of its DER.
    ///
    /// # Errors
    /// Anything that is not one certificate by RFC 5280, or is too large.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateFault> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateFault::TooLarge);
        }
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateFault::Malformed)?;
        if !rest.is_empty()
            || certificate.version() != X509Version::V3
            || certificate.raw_serial().len() > MAX_SERIAL_BYTES
            || certificate.signature_algorithm != certificate.tbs_certificate.signature
        {
            return Err(CertificateFault::Malformed);
        }
        let fault = |extension| move |_| CertificateFault::Extension(extension);
        let basic = certificate.basic_constraints().map_err(fault("basicConstraints"))?;
        let usage = certificate.key_usage().map_err(fault("keyUsage"))?;
        let extended = certificate.extended_key_usage().map_err(fault("extKeyUsage"))?;
        let (policies, authority_key) = (policies(&certificate)?, authority_key(&certificate)?);
        Ok(Self {
            subject: Name::read(certificate.subject()).ok_or(CertificateFault::Name("subject"))?,
            issuer: Name::read(certificate.issuer()).ok_or(CertificateFault::Name("issuer"))?,
            subject_der: certificate.subject().as_raw().to_vec(),
            issuer_der: certificate.issuer().as_raw().to_vec(),
            serial: certificate.raw_serial().to_vec(),
            validity: Validity {
                not_before: certificate.validity().not_before.timestamp(),
                not_after: certificate.validity().not_after.timestamp(),
            },
            key: PublicKey::of(certificate.public_key()),
            signed_by: certificate.signature_algorithm.algorithm.to_id_string(),
            authority: basic
                .filter(|basic| basic.value.ca)
                .map(|basic| PathLength(basic.value.path_len_constraint)),
            key_usage: usage.map(|usage| KeyUsage {
                digital_signature: usage.value.digital_signature(),
                certificate_sign: usage.value.key_cert_sign(),
                crl_sign: usage.value.crl_sign(),
            }),
            extended_key_usage: extended.map(|extended| ExtendedKeyUsage {
                code_signing: extended.value.code_signing,
                any: extended.value.any,
            }),
            authority_key,
            policies,
            email: email(&certificate)?,
            constrains_emails: constrains_emails(&certificate)?,
            der: CertificateDer::from(der.to_vec()),
        })
    }

    /// Whom it is about, by RFC 4514: as the block's `signer.subject` has it.
    #[must_use]
    pub fn subject(&self) -> String {
        self.subject.to_string()
    }

    /// Who issued it, by RFC 4514: as the block's `signer.issuer` has it.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.issuer.to_string()
    }

    /// The one common name of its subject.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.subject.only(COMMON_NAME)
    }

    pub(crate) fn issuer_common_name(&self) -> Option<&str> {
        self.issuer.only(COMMON_NAME)
    }

    /// The one organisation of its subject; none where it names several.
    #[must_use]
    pub fn organisation(&self) -> Option<&str> {
        self.subject.only(ORGANISATION)
    }

    /// The one email address among its alternative names; none where it has several.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }

    /// The object identifiers of the policies that it was issued under.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        self.policies.as_deref().unwrap_or_default()
    }

    /// Its key.
    ///
    /// # Errors
    /// Why the key is not one to verify by.
    pub fn public_key(&self) -> Result<&PublicKey, KeyFault> {
        self.key.as_ref().map_err(Clone::clone)
    }

    /// Its serial number, in hexadecimal digits.
    #[must_use]
    pub fn serial(&self) -> String {
        hex::encode(&self.serial)
    }

    /// The first and the last second of its validity.
    #[must_use]
    pub fn valid(&self) -> (SystemTime, SystemTime) {
        (instant(self.validity.not_before), instant(self.validity.not_after))
    }

    /// SHA-256 of its DER: `sha256:<hex>`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("sha256:{}", hex::encode(Sha256::digest(&self.der)))
    }

    /// Its DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Whether it may sign lists of revoked certificates: not where it says what it may do, and does not say this.
    pub(crate) fn may_sign_crls(&self) -> bool {
        self.key_usage.is_none_or(|usage| usage.crl_sign)
    }
}

fn policies(certificate: &X509Certificate<'_>) -> Result<Option<Vec<String>>, CertificateFault> {
    const FAULT: CertificateFault = CertificateFault::Extension("certificatePolicies");
    let mut found = certificate.iter_extensions().filter_map(|extension| {
        let is_of_policies = extension.oid.to_id_string() == "2.5.29.32";
        is_of_policies.then(|| extension.parsed_extension())
    });
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(ParsedExtension::CertificatePolicies(policies)), None) if policies.len() <= MAX_POLICIES => {
            Ok(Some(policies.iter().map(|policy| policy.policy_id.to_id_string()).collect()))
        }
        _ => Err(FAULT),
    }
}

fn authority_key(certificate: &X509Certificate<'_>) -> Result<Option<Vec<u8>>, CertificateFault> {
    let mut found = certificate.iter_extensions().filter_map(|extension| {
        let is_of_authority = extension.oid.to_id_string() == "2.5.29.35";
        is_of_authority.then(|| extension.parsed_extension())
    });
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(ParsedExtension::AuthorityKeyIdentifier(key)), None) => {
            Ok(key.key_identifier.as_ref().map(|key| key.0.to_vec()))
        }
        _ => Err(CertificateFault::Extension("authorityKeyIdentifier")),
    }
}

fn email(certificate: &X509Certificate<'_>) -> Result<Option<String>, CertificateFault> {
    const NAMES: &str = "subjectAltName";
    let names = certificate.subject_alternative_name().map_err(|_| CertificateFault::Extension(NAMES))?;
    let Some(names) = names else { return Ok(None) };
    let mut emails = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::RFC822Name(email) => Some(*email),
        _ => None,
    });
    let first = emails.next();
    if first.is_some_and(|email| !is_plain(email) || !email.is_ascii()) {
        return Err(CertificateFault::Name("email address"));
    }
    Ok(first.filter(|_| emails.next().is_none()).map(str::to_owned))
}

fn constrains_emails(certificate: &X509Certificate<'_>) -> Result<bool, CertificateFault> {
    const CONSTRAINTS: &str = "nameConstraints";
    let found = certificate.name_constraints().map_err(|_| CertificateFault::Extension(CONSTRAINTS))?;
    let Some(constraints) = found else { return Ok(false) };
    let trees = [&constraints.value.permitted_subtrees, &constraints.value.excluded_subtrees];
    let mut trees = trees.into_iter().flatten().flatten();
    Ok(trees.any(|tree| matches!(tree.base, GeneralName::RFC822Name(_))))
}

/// A time by seconds since 1970; one that the system cannot say is 1970.
pub(crate) fn instant(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// Whole seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

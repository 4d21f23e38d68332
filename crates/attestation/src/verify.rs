//! The one decision: whether an attestation is of this manifest and this module, by a signer whom the operator trusts.
//!
//! Invariant: a `Signer` is only ever made here, of a signature that holds by a chain that holds. The block itself is not
//! signed, so nothing in it can gain anything: its time can only make a chain invalid, and its names and algorithm must be
//! those of the certificate.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use mentat_manifest::{Attestation, ModuleDigest, escape_untrusted};
use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::certificate::{Certificate, instant, seconds};
use crate::chain::{self, Judge, Trusted};
use crate::name::Name;
use crate::rejection::Rejection;
use crate::statement::Statement;
use crate::trust::{Anchors, Revocations};

/// Characters of a signature in base64; those of the largest RSA keys have 1,368.
const MAX_SIGNATURE_CHARS: usize = 2 << 10;
/// Characters of a time; RFC 3339 with nanoseconds has 35.
const MAX_TIMESTAMP_CHARS: usize = 64;
/// Characters of the block that an error repeats.
const MAX_SHOWN_CHARS: usize = 120;

/// What to do about a revocation list whose next one is overdue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StaleCrl {
    /// Refuse all certificates of its issuer: a list that is kept from being renewed hides what was revoked since.
    #[default]
    Refuse,
    /// Go by it.
    Accept,
}

/// What to do about a certificate whose issuer has no revocation list here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingCrl {
    /// Take it for one that was not revoked.
    #[default]
    Accept,
    /// Refuse it.
    Refuse,
}

/// How strictly to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// By how much another's clock may be ahead: a certificate or a signature may be as much younger than now. Nothing is
    /// accepted for longer because of it.
    pub clock_skew: Duration,
    /// Lists that are overdue.
    pub stale_crl: StaleCrl,
    /// Lists that are missing.
    pub missing_crl: MissingCrl,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock_skew: Duration::from_secs(60),
            stale_crl: StaleCrl::default(),
            missing_crl: MissingCrl::default(),
        }
    }
}

/// Verifies attestations against what one operator trusts.
#[derive(Debug, Default)]
pub struct Verifier {
    anchors: Anchors,
    revocations: Revocations,
    options: Options,
}

/// Who signed an agent, as their certificate has it; only a verifier makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signer {
    /// The certificate's subject, by RFC 4514.
    pub subject: String,
    /// The one common name in it.
    pub common_name: Option<String>,
    /// The one organisation in it.
    pub organisation: Option<String>,
    /// The certificate's one email address.
    pub email: Option<String>,
    /// Who issued the certificate, by RFC 4514.
    pub issuer: String,
    /// The root that it leads to, by RFC 4514.
    pub root: String,
    /// The root's fingerprint: `sha256:<hex>` of its certificate.
    pub root_fingerprint: String,
    /// Object identifiers of the policies that the certificate was issued under, but for those that an authority above it
    /// may not issue under.
    pub policies: Vec<String>,
    /// The certificate's serial number, in hexadecimal digits.
    pub serial: String,
    /// `sha256:<hex>` of the certificate.
    pub fingerprint: String,
    /// How the agent is signed.
    pub algorithm: Algorithm,
    /// When it was signed, as the signer says.
    pub signed_at: SystemTime,
    /// When the certificate begins to be valid.
    pub not_before: SystemTime,
    /// The last second in which it is.
    pub not_after: SystemTime,
    /// The last second in which the whole chain holds, where nothing of it is revoked before: no certificate has expired,
    /// and no revocation list is overdue. After it, verify again.
    pub holds_until: SystemTime,
}

impl Verifier {
    /// A verifier of what is certified by one of the `anchors` and not taken back by one of the `revocations`.
    #[must_use]
    pub fn new(anchors: Anchors, revocations: Revocations, options: Options) -> Self {
        Self { anchors, revocations, options }
    }

    /// The same with the lists of `before` that would be lost for its own; names whose those are.
    #[must_use]
    pub fn keeping_lists(self, before: &Revocations) -> (Self, Vec<String>) {
        let (revocations, kept) = self.revocations.keeping(before);
        (Self { revocations, ..self }, kept)
    }

    /// The lists of revoked certificates that it goes by.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The same, but for refusing a certificate that no list is about: what holds by it as well was looked up in full.
    #[must_use]
    pub fn demanding_crls(mut self) -> Self {
        self.options.missing_crl = MissingCrl::Refuse;
        self
    }

    /// The roots that it trusts.
    #[must_use]
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// Who signed this manifest with this module, where the signature, the chain and its revocations hold at `now`.
    ///
    /// A block within the manifest's own text is not looked at: `attestation` is the one that counts.
    ///
    /// # Errors
    /// The first cause that was found, cheap ones first.
    pub fn verify(
        &self,
        manifest: &str,
        attestation: &Attestation,
        module: &ModuleDigest,
        now: SystemTime,
    ) -> Result<Signer, Rejection> {
        if !is_known_version(&attestation.version) {
            return Err(Rejection::Version(shown(&attestation.version.to_string())));
        }
        let declared: Algorithm = attestation
            .algorithm
            .parse()
            .map_err(|fault| Rejection::Algorithm { name: shown(&attestation.algorithm), fault })?;
        let now = seconds(now);
        let signed_at = timestamp(&attestation.timestamp)?;
        let judge = Judge {
            anchors: &self.anchors,
            revocations: &self.revocations,
            options: &self.options,
            signed_at,
            now,
        };
        if signed_at > now.saturating_add(judge.skew()) {
            return Err(Rejection::SignedInFuture(signed_at));
        }
        let signature = signature(&attestation.signature)?;
        let chain = chain::read(&attestation.certificate_chain, &self.anchors)?;
        let Trusted { signer, key, policies, root, holds_until } = judge.judge(chain)?;
        if key.algorithm() != declared {
            return Err(Rejection::AlgorithmMismatch { declared, key: key.algorithm() });
        }
        check_names(attestation, &signer)?;
        let statement = Statement::new(manifest, module)?;
        key.verify(statement.canonical(), &signature).map_err(|_| Rejection::SignatureMismatch)?;
        let (not_before, not_after) = signer.valid();
        Ok(Signer {
            subject: signer.subject(),
            common_name: signer.common_name().map(str::to_owned),
            organisation: signer.organisation().map(str::to_owned),
            email: signer.email().map(str::to_owned),
            issuer: signer.issuer(),
            root: root.subject(),
            root_fingerprint: root.fingerprint(),
            policies,
            serial: signer.serial(),
            fingerprint: signer.fingerprint(),
            algorithm: declared,
            signed_at: instant(signed_at),
            not_before,
            not_after,
            holds_until: instant(holds_until),
        })
    }
}

impl Signer {
    /// What to call them: the email address, else the common name, else the whole subject. A common name that looks like an
    /// address is none that an authority has vouched for, and is not passed off as one.
    #[must_use]
    pub fn name(&self) -> &str {
        let common_name = self.common_name.as_deref().filter(|name| !name.contains('@'));
        self.email.as_deref().or(common_name).unwrap_or(&self.subject)
    }
}

/// `1.0`, as text or as a number, in the ways in which versions are written.
fn is_known_version(version: &Value) -> bool {
    match version {
        Value::String(text) => matches!(text.strip_prefix('v').unwrap_or(text), "1" | "1.0" | "1.0.0"),
        Value::Number(number) => number.as_f64() == Some(1.0),
        _ => false,
    }
}

fn timestamp(text: &str) -> Result<i64, Rejection> {
    let time = if text.len() > MAX_TIMESTAMP_CHARS { None } else { DateTime::parse_from_rfc3339(text).ok() };
    time.map(|time| time.timestamp()).ok_or_else(|| Rejection::Timestamp(shown(text)))
}

/// The signature's bytes; line breaks, which tools put into base64, are passed over.
fn signature(text: &str) -> Result<Vec<u8>, Rejection> {
    if text.len() > MAX_SIGNATURE_CHARS {
        return Err(Rejection::SignatureMalformed);
    }
    let text: String = text.chars().filter(|character| !character.is_ascii_whitespace()).collect();
    let bytes = STANDARD.decode(text).map_err(|_| Rejection::SignatureMalformed)?;
    if bytes.is_empty() { Err(Rejection::SignatureMalformed) } else { Ok(bytes) }
}

/// The names in the block are the certificate's, so that a reader of the manifest is not told of another signer.
fn check_names(attestation: &Attestation, signer: &Certificate) -> Result<(), Rejection> {
    let says = |name: &Name, others: &[Option<&str>], text: &str| {
        name.is_said_by(text) || others.contains(&Some(text))
    };
    let said = &attestation.signer;
    if !says(&signer.subject, &[signer.common_name(), signer.email()], &said.subject) {
        let (said, is) = (shown(&said.subject), signer.subject());
        return Err(Rejection::SignerMismatch { field: "subject", said, is });
    }
    if !says(&signer.issuer, &[signer.issuer_common_name()], &said.issuer) {
        let (said, is) = (shown(&said.issuer), signer.issuer());
        return Err(Rejection::SignerMismatch { field: "issuer", said, is });
    }
    Ok(())
}

fn shown(text: &str) -> String {
    escape_untrusted(text, MAX_SHOWN_CHARS)
}

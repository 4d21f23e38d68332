//! From a chain of certificates to a signer who is trusted. The chain's mathematics, its revocations, name constraints and
//! path lengths are `rustls-webpki`'s; here is what that leaves to its callers, and what is cheap to refuse first: order,
//! bounds, keys, usages, times.
//!
//! Invariant: nothing is computed with a key before it was found to be within its sizes, and a chain is walked once, in the
//! order in which it came, so that no arrangement of certificates costs more than their number.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, Error, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};

use crate::algorithm::weak_signature;
use crate::certificate::{Certificate, EMAIL_ADDRESS, Validity};
use crate::public_key::PublicKey;
use crate::rejection::{ChainPosition, Rejection};
use crate::trust::{Anchors, Moment, Revocations};
use crate::verify::{MissingCrl, Options, StaleCrl};

/// Certificates of a chain: the signer's, the authorities', and perhaps the root's.
pub(crate) const MAX_CHAIN: usize = 8;
/// `codeSigning` (RFC 5280, section 4.2.1.12), the contents of its DER.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
/// `anyPolicy` (RFC 5280, section 4.2.1.4), which is no policy.
const ANY_POLICY: &str = "2.5.29.32.0";

/// Against whom, against what and by which clock a chain is verified.
pub(crate) struct Judge<'a> {
    pub(crate) anchors: &'a Anchors,
    pub(crate) revocations: &'a Revocations,
    pub(crate) options: &'a Options,
    /// Seconds since 1970.
    pub(crate) signed_at: i64,
    pub(crate) now: i64,
}

/// The signer's certificate of a chain that holds, and its root's.
pub(crate) struct Trusted<'a> {
    pub(crate) signer: Certificate,
    pub(crate) key: PublicKey,
    /// Policies of the signer's certificate that its authorities may issue under.
    pub(crate) policies: Vec<String>,
    pub(crate) root: &'a Certificate,
    /// The last second in which all of it holds, if nothing is revoked: no certificate has expired, and no list is overdue.
    pub(crate) holds_until: i64,
}

/// The certificates of a block, in its order and within bounds; no root at the end.
pub(crate) fn read(chain: &[String], anchors: &Anchors) -> Result<Vec<Certificate>, Rejection> {
    if chain.len() > MAX_CHAIN {
        return Err(Rejection::ChainTooLong(chain.len()));
    }
    let mut certificates = Vec::with_capacity(chain.len());
    for (number, pem) in (1..).zip(chain) {
        let certificate = Certificate::from_pem(pem);
        certificates.push(certificate.map_err(|fault| Rejection::Certificate { number, fault })?);
    }
    // Many send the root along, which is trusted for being known and not for being sent.
    if certificates.len() > 1 && certificates.last().is_some_and(|last| anchors.contains(last)) {
        certificates.pop();
    }
    if certificates.is_empty() { Err(Rejection::ChainEmpty) } else { Ok(certificates) }
}

impl<'a> Judge<'a> {
    /// Who signed, if the chain holds.
    pub(crate) fn judge(&self, chain: Vec<Certificate>) -> Result<Trusted<'a>, Rejection> {
        self.check_order(&chain)?;
        for (index, certificate) in chain.iter().enumerate() {
            let place = || place(index + 1, certificate);
            if let Some(weak) = weak_signature(&certificate.signed_by) {
                return Err(Rejection::WeakSignature(place(), weak.to_owned()));
            }
            if let Err(fault) = &certificate.key {
                return Err(Rejection::Key(place(), fault.clone()));
            }
            match index {
                0 => check_signer(certificate)?,
                _ => check_authority(index + 1, certificate, chain.get(1..index).unwrap_or_default())?,
            }
        }
        for (index, certificate) in chain.iter().enumerate() {
            self.check_validity(index + 1, certificate)?;
        }
        // The library knows of no time before which a list says nothing.
        if let Some((number, certificate, begins)) = self.revocations.to_come(&chain, self.moment()) {
            return Err(Rejection::RevocationNotYetValid(place(number, certificate), begins));
        }
        // It compares bytes, and would pass such a list over.
        if let Some((number, certificate)) = self.revocations.misnamed(&chain, self.moment()) {
            return Err(Rejection::RevocationMisnamed(place(number, certificate), certificate.issuer()));
        }
        let root = self.verify(&chain)?;
        let holds_until = self.holds_until(&chain, root);
        let policies = policies(&chain, root);
        let signer = chain.into_iter().next().ok_or(Rejection::ChainEmpty)?;
        let key = signer.key.clone().map_err(|fault| Rejection::Key(place(1, &signer), fault))?;
        Ok(Trusted { signer, key, policies, root, holds_until })
    }

    fn holds_until(&self, chain: &[Certificate], root: &Certificate) -> i64 {
        let certificates = chain.iter().chain([root]).map(|certificate| certificate.validity.not_after);
        let overdue = match self.options.stale_crl {
            StaleCrl::Refuse => self.revocations.current_until(chain, self.moment()),
            StaleCrl::Accept => None,
        };
        certificates.chain(overdue).min().unwrap_or(self.now)
    }

    /// Each certificate is followed by its issuer's, and the last one's issuer is a root.
    fn check_order(&self, chain: &[Certificate]) -> Result<(), Rejection> {
        for (index, certificate) in chain.iter().enumerate() {
            let same = |other: &Certificate| {
                other.der == certificate.der
                    || (other.subject_der == certificate.subject_der && other.key == certificate.key)
            };
            if chain.iter().take(index).any(same) {
                return Err(Rejection::ChainLoop(place(index + 1, certificate)));
            }
            let issuer = || certificate.issuer();
            match chain.get(index + 1) {
                Some(next) if next.subject_der != certificate.issuer_der => {
                    if next.subject.is_alike(&certificate.issuer) {
                        return Err(Rejection::IssuerMisnamed(place(index + 1, certificate), issuer()));
                    }
                    return Err(Rejection::ChainBroken(place(index + 1, certificate), issuer()));
                }
                None if self.anchors.named(&certificate.issuer_der).is_empty() => {
                    if self.anchors.is_misnamed(&certificate.issuer) {
                        return Err(Rejection::IssuerMisnamed(place(index + 1, certificate), issuer()));
                    }
                    return Err(Rejection::UntrustedIssuer(place(index + 1, certificate), issuer()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Valid now, and when the agent was signed.
    fn check_validity(&self, number: usize, certificate: &Certificate) -> Result<(), Rejection> {
        let Validity { not_before, not_after } = certificate.validity;
        if self.now > not_after {
            return Err(Rejection::Expired(place(number, certificate), not_after));
        }
        if self.now.saturating_add(self.skew()) < not_before {
            return Err(Rejection::NotYetValid(place(number, certificate), not_before));
        }
        if self.signed_at > not_after || self.signed_at.saturating_add(self.skew()) < not_before {
            return Err(Rejection::NotValidWhenSigned(place(number, certificate), self.signed_at));
        }
        Ok(())
    }

    /// A clock that is behind is forgiven by as much; one that is ahead never.
    pub(crate) fn skew(&self) -> i64 {
        i64::try_from(self.options.clock_skew.as_secs()).unwrap_or(i64::MAX)
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, latest: self.now.saturating_add(self.skew()) }
    }

    /// The chain's signatures, constraints and revocations, up to one of the roots of the right name.
    fn verify(&self, chain: &[Certificate]) -> Result<&'a Certificate, Rejection> {
        let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
            return Err(Rejection::ChainEmpty);
        };
        let mut rejection = Rejection::UntrustedIssuer(place(chain.len(), last), last.issuer());
        // Roots of one name: an authority that has changed its key, or renewed its certificate.
        for (root, anchor) in self.anchors.named(&last.issuer_der) {
            let verified = self.verify_under(first, chain, root, anchor);
            match verified.and_then(|()| self.check_root(chain, root)) {
                Ok(()) => return Ok(root),
                Err(revoked @ Rejection::Revoked(..)) => return Err(revoked),
                // By another root it may hold. That none of them has signed it says less than what is wrong with one that has.
                Err(Rejection::CertificateForged) if !matches!(rejection, Rejection::UntrustedIssuer(..)) => {
                }
                Err(other) => rejection = other,
            }
        }
        Err(rejection)
    }

    fn verify_under(
        &self,
        first: &Certificate,
        chain: &[Certificate],
        root: &Certificate,
        anchor: &rustls_pki_types::TrustAnchor<'static>,
    ) -> Result<(), Rejection> {
        let signer = EndEntityCert::try_from(&first.der).map_err(|error| self.explain(&error, chain))?;
        let above: Vec<CertificateDer<'_>> =
            chain.iter().skip(1).map(|certificate| CertificateDer::from(certificate.der.as_ref())).collect();
        // What the clock's skew forgave above is not asked about again.
        let begun = chain.iter().map(|certificate| certificate.validity.not_before).max().unwrap_or(self.now);
        let time = Duration::from_secs(u64::try_from(self.now.max(begun)).unwrap_or(0));
        let lists = self.revocations.about(chain, self.moment());
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(match self.options.missing_crl {
                    MissingCrl::Accept => UnknownStatusPolicy::Allow,
                    MissingCrl::Refuse => UnknownStatusPolicy::Deny,
                })
                .with_expiration_policy(match self.options.stale_crl {
                    StaleCrl::Accept => ExpirationPolicy::Ignore,
                    StaleCrl::Refuse => ExpirationPolicy::Enforce,
                })
                .build()
        });
        if revocation.is_none() && self.options.missing_crl == MissingCrl::Refuse {
            return Err(self.unknown(chain));
        }
        let verified = signer.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            std::slice::from_ref(anchor),
            &above,
            UnixTime::since_unix_epoch(time),
            // That the signer's says so at all was checked; authorities need not say it.
            KeyUsage::required_if_present(CODE_SIGNING),
            revocation,
            None,
        );
        verified.map_err(|error| self.explain(&error, chain))?;
        check_emails(chain, root)?;
        // Of a root, the library does not know what it may sign.
        let last = chain.get(chain.len().saturating_sub(1)..).unwrap_or_default();
        if !root.may_sign_crls() && !self.revocations.about(last, self.moment()).is_empty() {
            return Err(Rejection::RevocationForged);
        }
        Ok(())
    }

    /// What the library leaves out of roots: their own time, and how deep they may reach.
    fn check_root(&self, chain: &[Certificate], root: &Certificate) -> Result<(), Rejection> {
        self.check_validity(0, root)?;
        // Authorities that issue for themselves, as when they change their keys, do not count (RFC 5280, section 6.1.4).
        let above = chain.iter().skip(1);
        let depth = above.filter(|authority| authority.subject_der != authority.issuer_der).count();
        check_depth(place(0, root), root, depth)
    }

    /// The library's error as the cause that it is.
    fn explain(&self, error: &Error, chain: &[Certificate]) -> Rejection {
        match error {
            Error::CertRevoked => self.revoked(chain),
            Error::UnknownRevocationStatus => self.unknown(chain),
            Error::CrlExpired { next_update, .. } => {
                Rejection::RevocationStale(i64::try_from(next_update.as_secs()).unwrap_or(i64::MAX))
            }
            Error::InvalidCrlSignatureForPublicKey
            | Error::IssuerNotCrlSigner
            | Error::UnsupportedCrlSignatureAlgorithmContext(_)
            | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => Rejection::RevocationForged,
            Error::InvalidSignatureForPublicKey
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | Error::UnknownIssuer => Rejection::CertificateForged,
            Error::NameConstraintViolation => Rejection::NameConstraints,
            Error::UnsupportedCriticalExtension => Rejection::Unverifiable(
                "a certificate has a critical extension of which nothing is known here".into(),
            ),
            Error::UnsupportedSignatureAlgorithmContext(_) => {
                Rejection::Unverifiable("a certificate is signed by an algorithm that is not taken".into())
            }
            other => Rejection::Unverifiable(format!(
                "a certificate in it is not as RFC 5280 wants it (`{other}`); have it issued again"
            )),
        }
    }

    /// Which of the certificates was revoked.
    fn revoked(&self, chain: &[Certificate]) -> Rejection {
        let is_revoked = |certificate: &Certificate| {
            let lists = self.revocations.about(std::slice::from_ref(certificate), self.moment());
            lists.iter().any(|list| matches!(list.find_serial(&certificate.serial), Ok(Some(_))))
        };
        match (1..).zip(chain).find(|(_, certificate)| is_revoked(certificate)) {
            Some((number, certificate)) => {
                Rejection::Revoked(place(number, certificate), certificate.serial())
            }
            None => Rejection::Unverifiable("a certificate was revoked".into()),
        }
    }

    /// Which of the certificates no list is about.
    fn unknown(&self, chain: &[Certificate]) -> Rejection {
        let has_none = |certificate: &Certificate| {
            self.revocations.about(std::slice::from_ref(certificate), self.moment()).is_empty()
        };
        let found = (1..).zip(chain).find(|(_, certificate)| has_none(certificate));
        match found.or_else(|| (1..).zip(chain).next()) {
            Some((number, certificate)) => {
                Rejection::RevocationUnknown(place(number, certificate), certificate.issuer())
            }
            None => Rejection::ChainEmpty,
        }
    }
}

/// Constraints on email addresses are for those in a certificate's own name as well (RFC 5280, section 4.2.1.10), where the
/// library does not look. They are not evaluated there either: who is below them has none.
fn check_emails(chain: &[Certificate], root: &Certificate) -> Result<(), Rejection> {
    let mut above = chain.iter().chain([root]);
    let mut has_email = false;
    let is_refused = above.any(|certificate| {
        let is_constrained = has_email && certificate.constrains_emails;
        has_email |= certificate.subject.has(EMAIL_ADDRESS);
        is_constrained
    });
    if is_refused { Err(Rejection::NameConstraints) } else { Ok(()) }
}

/// The signer's policies, so far as each authority up to the root that names policies names them too: one that may issue under
/// one policy cannot lend another, and with it another trust. Authorities that name none are not limited (unlike RFC 5280,
/// section 6.1, by which nobody had a policy below them).
fn policies(chain: &[Certificate], root: &Certificate) -> Vec<String> {
    let Some((signer, above)) = chain.split_first() else { return Vec::new() };
    let may_issue = |authority: &Certificate, policy: &String| {
        let all = authority.policies.as_ref();
        all.is_none_or(|all| all.iter().any(|one| one == policy || one == ANY_POLICY))
    };
    let holds = |policy: &&String| {
        policy.as_str() != ANY_POLICY
            && above.iter().chain([root]).all(|authority| may_issue(authority, policy))
    };
    signer.policies().iter().filter(holds).cloned().collect()
}

/// The signer's certificate is for signing code, and says so.
fn check_signer(signer: &Certificate) -> Result<(), Rejection> {
    let place = || place(1, signer);
    if signer.authority.is_some() {
        return Err(Rejection::AuthorityAsSigner(place()));
    }
    if !signer.key_usage.is_some_and(|usage| usage.digital_signature) {
        return Err(Rejection::KeyUsage(place(), "digitalSignature"));
    }
    match signer.extended_key_usage {
        None => Err(Rejection::ExtendedKeyUsage(place(), "it does not say what it is for")),
        // One that is for everything was issued with nothing in mind.
        Some(usage) if usage.any => Err(Rejection::ExtendedKeyUsage(place(), "it is for any use at all")),
        Some(usage) if !usage.code_signing => {
            Err(Rejection::ExtendedKeyUsage(place(), "it is for other uses"))
        }
        Some(_) => Ok(()),
    }
}

/// A certificate above the signer's is an authority's, and may stand where it does. `below` are the authorities under it.
fn check_authority(number: usize, authority: &Certificate, below: &[Certificate]) -> Result<(), Rejection> {
    let place = || place(number, authority);
    if authority.authority.is_none() {
        return Err(Rejection::NotAnAuthority(place()));
    }
    if authority.key_usage.is_some_and(|usage| !usage.certificate_sign) {
        return Err(Rejection::KeyUsage(place(), "keyCertSign"));
    }
    if authority.extended_key_usage.is_some_and(|usage| !usage.code_signing) {
        return Err(Rejection::ExtendedKeyUsage(place(), "what it issues is for other uses"));
    }
    // The library counts those as well that an authority has issued for itself.
    check_depth(place(), authority, below.len())
}

fn check_depth(place: ChainPosition, authority: &Certificate, depth: usize) -> Result<(), Rejection> {
    let most = authority.authority.and_then(|length| length.0);
    match most.map(|most| usize::try_from(most).unwrap_or(usize::MAX)) {
        Some(most) if depth > most => Err(Rejection::PathLength(place)),
        _ => Ok(()),
    }
}

fn place(number: usize, certificate: &Certificate) -> ChainPosition {
    ChainPosition { number, subject: certificate.subject() }
}

//! What the operator trusts: root certificates, and lists of revoked ones. Bytes come in, from wherever; nothing is read from
//! a disk here.
//!
//! Invariant: every root is an authority with a key worth trusting, and every list is one that can be evaluated. What cannot
//! is refused when it is loaded, rather than passed over when it matters.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor};
use webpki::{BorrowedCertRevocationList, CertRevocationList, Error, anchor_from_trusted_cert};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::algorithm::weak_signature;
use crate::certificate::{Certificate, CertificateFault};
use crate::name::Name;
use crate::public_key::KeyFault;

/// Roots that an operator trusts.
const MAX_ROOTS: usize = 100;
/// Lists of revoked certificates.
const MAX_CRLS: usize = 100;
/// Bytes of one file of roots or lists.
const MAX_FILE_BYTES: usize = 16 << 20;
/// Bytes of a list that is read once more for what is wrong with it.
const MAX_EXPLAINED_BYTES: usize = 1 << 20;
/// Certificates that one list revokes; each is held in memory.
const MAX_REVOKED: usize = 100_000;

/// Why bytes are no roots or no revocation list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// More than is read.
    #[error("it has more than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    /// More than are held.
    #[error("there are more than {0} of them")]
    TooMany(usize),
    /// Neither PEM nor DER of what is wanted.
    #[error("it has nothing in it that could be read: PEM (`BEGIN {0}`) or DER is wanted")]
    Nothing(&'static str),
    /// Not a certificate.
    #[error("certificate {0}: {1}")]
    Certificate(usize, CertificateFault),
    /// A certificate whose key is worth nothing.
    #[error("the key of `{0}` is not taken: {1}")]
    Key(String, KeyFault),
    /// Not an authority's.
    #[error(
        "`{0}` is not that of an authority: it needs `CA:TRUE`, and `keyCertSign` where it has key usages"
    )]
    NotAnAuthority(String),
    /// A list that cannot be evaluated.
    #[error("revocation list {0}: {1}")]
    Crl(usize, String),
}

/// The roots that an operator trusts.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    roots: Vec<Certificate>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Anchors {
    /// Adds the certificates of PEM text, or one in DER; the same one twice is one.
    ///
    /// # Errors
    /// Anything but certificates of authorities, with keys worth trusting. Nothing is added then.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        let mut added = self.clone();
        for (number, der) in (1..).zip(sections::<CertificateDer<'static>>(bytes, "CERTIFICATE")?) {
            let root = Certificate::from_der(&der).map_err(|fault| TrustError::Certificate(number, fault))?;
            let signs = root.key_usage.is_none_or(|usage| usage.certificate_sign);
            if root.authority.is_none() || !signs {
                return Err(TrustError::NotAnAuthority(root.subject()));
            }
            if let Err(fault) = &root.key {
                return Err(TrustError::Key(root.subject(), fault.clone()));
            }
            if added.roots.iter().any(|known| known.der == root.der) {
                continue;
            }
            let anchor = anchor_from_trusted_cert(&root.der)
                .map_err(|_| TrustError::Certificate(number, CertificateFault::Malformed))?
                .to_owned();
            if added.roots.len() == MAX_ROOTS {
                return Err(TrustError::TooMany(MAX_ROOTS));
            }
            added.roots.push(root);
            added.anchors.push(anchor);
        }
        *self = added;
        Ok(())
    }

    /// The roots.
    #[must_use]
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    pub(crate) fn contains(&self, certificate: &Certificate) -> bool {
        self.roots.iter().any(|root| root.der == certificate.der)
    }

    /// The roots of one name, each with its anchor: the one that is valid longest first, in whichever order they came.
    pub(crate) fn named(&self, subject_der: &[u8]) -> Vec<(&Certificate, &TrustAnchor<'static>)> {
        let both = self.roots.iter().zip(&self.anchors);
        let mut named: Vec<_> = both.filter(|(root, _)| root.subject_der == subject_der).collect();
        named.sort_by(|(a, _), (b, _)| {
            b.validity.not_after.cmp(&a.validity.not_after).then_with(|| a.der.cmp(&b.der))
        });
        named
    }

    /// Whether one of the roots has this name in other bytes.
    pub(crate) fn is_misnamed(&self, subject: &Name) -> bool {
        self.roots.iter().any(|root| root.subject.is_alike(subject))
    }
}

/// When lists are asked, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: i64,
    /// The latest time that is none to come, by a clock that may be ahead of this one.
    pub(crate) latest: i64,
}

/// The lists of revoked certificates that an operator has.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    /// The newest first.
    lists: Vec<Arc<RevocationList>>,
}

#[derive(Debug)]
struct RevocationList {
    issuer: Name,
    issuer_der: Vec<u8>,
    authority_key: Option<Vec<u8>>,
    made: Made,
    /// By when there is to be another; the last time there is where it does not say.
    next_update: i64,
    list: CertRevocationList<'static>,
}

/// When a list was made; of those of one second, the number tells (RFC 5280, section 5.2.3).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    this_update: i64,
    number_bytes: usize,
    number: Vec<u8>,
}

impl Revocations {
    /// Adds the lists of PEM text, or one in DER.
    ///
    /// # Errors
    /// Anything but lists that can be evaluated: of version 2, with a next update, about all that their issuer has issued and
    /// nothing else (no delta, no indirect one, none of a distribution point), and not signed by what can be forged. Nothing is
    /// added then.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        let mut added = Vec::new();
        for (number, der) in (1..).zip(sections::<CertificateRevocationListDer<'static>>(bytes, "X509 CRL")?)
        {
            let list = RevocationList::read(&der).map_err(|message| TrustError::Crl(number, message))?;
            if self.lists.len() + added.len() == MAX_CRLS {
                return Err(TrustError::TooMany(MAX_CRLS));
            }
            added.push(Arc::new(list));
        }
        self.lists.extend(added);
        self.lists.sort_by(|a, b| b.made.cmp(&a.made));
        Ok(())
    }

    /// These lists, and those of `before` that would be lost for them: of an issuer of whom there is none any more, or an older
    /// one alone (numbers and times of lists only rise; RFC 5280, section 5.2.3). Names whose lists were kept.
    #[must_use]
    pub fn keeping(mut self, before: &Self) -> (Self, Vec<String>) {
        let is_alike = |one: &RevocationList, other: &RevocationList| {
            one.issuer_der == other.issuer_der && one.authority_key == other.authority_key
        };
        let mut kept: Vec<Arc<RevocationList>> = Vec::new();
        for list in &before.lists {
            let is_replaced = self.lists.iter().any(|new| is_alike(new, list) && new.made >= list.made);
            // The newest of an issuer's comes first.
            if !is_replaced && !kept.iter().any(|newer| is_alike(newer, list)) {
                kept.push(Arc::clone(list));
            }
        }
        kept.truncate(MAX_CRLS.saturating_sub(self.lists.len()));
        let names = kept.iter().map(|list| list.issuer.to_string()).collect();
        self.lists.extend(kept);
        self.lists.sort_by(|a, b| b.made.cmp(&a.made));
        (self, names)
    }

    /// How many lists there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lists.len()
    }

    /// The lists that could be about one of the certificates, the first of an issuer being the one that decides: one
    /// that takes a certificate back and is not overdue, else the newest.
    pub(crate) fn about<'a>(
        &'a self,
        certificates: &'a [Certificate],
        at: Moment,
    ) -> Vec<&'a CertRevocationList<'static>> {
        let revokes = |list: &&RevocationList| {
            let mut about = certificates.iter().filter(|certificate| self.is_about(list, certificate, at));
            at.now < list.next_update && about.any(|certificate| list.revokes(certificate))
        };
        let (revoking, others): (Vec<_>, Vec<_>) = self.lists_about(certificates, at).partition(revokes);
        revoking.into_iter().chain(others).map(|list| &list.list).collect()
    }

    /// The first of the certificates about which there are lists, all of them still to come, and when the first of them does.
    pub(crate) fn to_come<'a>(
        &self,
        certificates: &'a [Certificate],
        at: Moment,
    ) -> Option<(usize, &'a Certificate, i64)> {
        let ever = Moment { latest: i64::MAX, ..at };
        (1..).zip(certificates).find_map(|(number, certificate)| {
            let about = self.lists.iter().filter(|list| self.is_about(list, certificate, ever));
            let first = about.map(|list| list.made.this_update).min()?;
            (first > at.latest).then_some((number, certificate, first))
        })
    }

    /// The first of the certificates that a list is about which cannot be evaluated for it: the list writes the issuer's name in
    /// other bytes, and goes by bytes alone.
    pub(crate) fn misnamed<'a>(
        &self,
        certificates: &'a [Certificate],
        at: Moment,
    ) -> Option<(usize, &'a Certificate)> {
        let is_misnamed = |certificate: &Certificate| {
            let about = self.lists.iter().filter(|list| self.is_about(list, certificate, at));
            about.map(|list| &list.issuer_der).any(|issuer_der| *issuer_der != certificate.issuer_der)
        };
        (1..).zip(certificates).find(|(_, certificate)| is_misnamed(certificate))
    }

    /// The last second before the next of those lists is overdue; those that are have been replaced, or are not minded.
    pub(crate) fn current_until(&self, certificates: &[Certificate], at: Moment) -> Option<i64> {
        let until = self.lists_about(certificates, at).map(|list| list.next_update.saturating_sub(1));
        until.filter(|until| *until >= at.now).min()
    }

    fn lists_about<'a>(
        &'a self,
        certificates: &'a [Certificate],
        at: Moment,
    ) -> impl Iterator<Item = &'a RevocationList> {
        self.lists
            .iter()
            .map(Arc::as_ref)
            .filter(move |list| certificates.iter().any(|certificate| self.is_about(list, certificate, at)))
    }

    /// Two authorities of one name, such as the old key's and the new one's, are told apart by the names of their keys. Those
    /// are made in several ways, though: a list that names another key is set aside only where there is one that names the
    /// right one. Else it decides, or is found to be signed by somebody else, and the certificate is refused. One that is still to come is about nothing yet.
    fn is_about(&self, list: &RevocationList, certificate: &Certificate, at: Moment) -> bool {
        let of_issuer = |list: &RevocationList| {
            list.made.this_update <= at.latest
                && (certificate.issuer_der == list.issuer_der || certificate.issuer.is_alike(&list.issuer))
        };
        let fits = |list: &RevocationList| match (&certificate.authority_key, &list.authority_key) {
            (Some(wanted), Some(named)) => wanted == named,
            _ => true,
        };
        of_issuer(list) && (fits(list) || !self.lists.iter().any(|other| of_issuer(other) && fits(other)))
    }
}

impl RevocationList {
    fn read(der: &[u8]) -> Result<Self, String> {
        let borrowed = BorrowedCertRevocationList::from_der(der).map_err(|error| unevaluated(der, &error))?;
        // Counted before anything is held of them.
        if (&borrowed).into_iter().take(MAX_REVOKED + 1).count() > MAX_REVOKED {
            return Err(format!("it revokes more than {MAX_REVOKED} certificates"));
        }
        let owned = CertRevocationList::from(borrowed.to_owned().map_err(|_| MALFORMED)?);
        // The library takes the first of several for all that there is, also where it is a part.
        if owned.issuing_distribution_point().is_some() {
            return Err(IN_PARTS.to_owned());
        }
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| MALFORMED)?;
        if let Some(weak) = weak_signature(&list.signature_algorithm.algorithm.to_id_string()) {
            return Err(format!("it is signed with {weak}, which can be forged"));
        }
        let authority_key =
            list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(key) => {
                    key.key_identifier.as_ref().map(|key| key.0.to_vec())
                }
                _ => None,
            });
        let issuer = Name::read(list.issuer()).ok_or(
            "the name of its issuer has too many characters, or such as cannot be shown; have it issued again by another name",
        )?;
        let number = match list.crl_number() {
            Some(number) => number.to_bytes_be(),
            None => Vec::new(),
        };
        Ok(Self {
            issuer,
            issuer_der: list.issuer().as_raw().to_vec(),
            authority_key,
            made: Made { this_update: list.last_update().timestamp(), number_bytes: number.len(), number },
            next_update: list.next_update().map_or(i64::MAX, |time| time.timestamp()),
            list: owned,
        })
    }

    fn revokes(&self, certificate: &Certificate) -> bool {
        matches!(self.list.find_serial(&certificate.serial), Ok(Some(_)))
    }
}

const MALFORMED: &str = "it is no X.509 revocation list of version 2 that can be read; get it anew";

const IN_PARTS: &str = "it is about some certificates or some reasons alone (issuing distribution point); get the list about all, without that extension";

/// Why the library does not evaluate a list, and what to do about it.
fn unevaluated(der: &[u8], error: &Error) -> &'static str {
    match error {
        Error::InvalidCrlNumber => {
            "its number (`cRLNumber`) is negative or has more than 20 bytes; have the authority number its lists from 1 on"
        }
        Error::UnsupportedDeltaCrl => {
            "it has the changes since another list alone (delta); get the whole list"
        }
        Error::UnsupportedIndirectCrl => {
            "it is about certificates of others than its issuer (indirect); get the list of the issuer itself"
        }
        Error::UnsupportedRevocationReasonsPartitioning | Error::UnsupportedCrlIssuingDistributionPoint => {
            IN_PARTS
        }
        Error::UnsupportedRevocationReason => {
            "it revokes for a reason that is not known; have it issued with one of RFC 5280"
        }
        Error::UnsupportedCriticalExtension => {
            "it has a critical extension of which nothing is known here; have it issued without"
        }
        Error::InvalidSerialNumber => {
            "it revokes a serial number that no certificate can have; have it issued again"
        }
        // Of what RFC 5280 (section 5.1.2) wants and older authorities leave out, the library says that it is no DER.
        _ => match CertificateRevocationList::from_der(der.get(..MAX_EXPLAINED_BYTES).unwrap_or(der)) {
            Ok((_, list)) if list.version().is_none() => {
                "it is of version 1; have the authority issue version 2 (of OpenSSL: by `crl_extensions`)"
            }
            Ok((_, list)) if list.next_update().is_none() => {
                "it does not say by when there is to be another (`nextUpdate`); have it issued with that"
            }
            _ => MALFORMED,
        },
    }
}

/// The sections of one kind in PEM text, or all of the bytes where they are DER.
fn sections<T>(bytes: &[u8], kind: &'static str) -> Result<Vec<T>, TrustError>
where
    T: PemObject + From<Vec<u8>>,
{
    if bytes.len() > MAX_FILE_BYTES {
        return Err(TrustError::TooLarge);
    }
    // Both are a sequence in DER, and PEM is text.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![T::from(bytes.to_vec())]);
    }
    let sections: Result<Vec<T>, _> = T::pem_slice_iter(bytes).collect();
    sections.ok().filter(|sections| !sections.is_empty()).ok_or(TrustError::Nothing(kind))
}

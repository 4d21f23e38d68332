//! What an authority has issued and revoked: the file `authority.json`, with its version. Pure: text in, an index or a reason
//! out, and back. Keys are not in it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::AuthorityError;

/// Version of the form that is read and written.
const VERSION: u32 = 1;

/// All that an authority remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    version: u32,
    /// Stands in every name that it issues.
    pub(super) organisation: String,
    pub(super) root_crl: CrlState,
    pub(super) intermediate_crl: CrlState,
    pub(super) certificates: Vec<IssuedCertificate>,
}

/// The newest revocation list of one issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CrlState {
    /// `cRLNumber`, which only ever grows.
    pub(super) number: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) next_update: OffsetDateTime,
}

/// One certificate that an authority has issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuedCertificate {
    /// In hexadecimal, as OpenSSL prints it.
    pub serial: String,
    /// What it is for.
    pub kind: CertificateKind,
    /// Common name of its subject.
    pub name: String,
    /// Whose it is; none of an authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// It holds from then on.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// It holds until then.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// That it no longer holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

/// When and why a certificate was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Why.
    pub reason: RevocationReason,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateKind {
    /// Certifies the intermediate authority, and is what operators trust.
    Root,
    /// Certifies developers.
    Intermediate,
    /// Signs agents.
    Developer,
}

/// Why a certificate no longer holds (RFC 5280, 5.3.1; those that fit an authority of this kind).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
    /// Nobody says.
    #[default]
    Unspecified,
    /// Somebody else has the key, or may have.
    KeyCompromise,
    /// Its owner is no longer with the organisation, or has another name.
    AffiliationChanged,
    /// There is a newer one.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
    /// Its owner may no longer sign.
    PrivilegeWithdrawn,
}

impl Index {
    pub(super) fn new(organisation: String, root_crl: CrlState, intermediate_crl: CrlState) -> Self {
        Self { version: VERSION, organisation, root_crl, intermediate_crl, certificates: Vec::new() }
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is of another version, or not an index.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, AuthorityError> {
        // The version first: what another version has, this one does not know.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let damaged = |error: serde_json::Error| AuthorityError::Index(error.to_string());
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(damaged)?;
        if versioned.version != VERSION {
            return Err(AuthorityError::Version { found: versioned.version, known: VERSION });
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, AuthorityError> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|error| AuthorityError::Index(error.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }

    /// The certificate by which an authority issues: the last that it was given.
    ///
    /// # Errors
    /// When there is none, or it was revoked.
    pub(super) fn newest(&self, kind: CertificateKind) -> Result<&IssuedCertificate, AuthorityError> {
        let newest = self.certificates.iter().rfind(|certificate| certificate.kind == kind);
        let newest = newest
            .ok_or_else(|| AuthorityError::Index(format!("there is no {} authority in it", kind.as_str())))?;
        if newest.revoked.is_some() { Err(AuthorityError::IssuerRevoked) } else { Ok(newest) }
    }

    pub(super) fn crl(&self, issuer: CertificateKind) -> CrlState {
        match issuer {
            CertificateKind::Root => self.root_crl,
            CertificateKind::Intermediate | CertificateKind::Developer => self.intermediate_crl,
        }
    }

    pub(super) fn crl_mut(&mut self, issuer: CertificateKind) -> &mut CrlState {
        match issuer {
            CertificateKind::Root => &mut self.root_crl,
            CertificateKind::Intermediate | CertificateKind::Developer => &mut self.intermediate_crl,
        }
    }

    /// Those of the certificates that issuer of `kind` has revoked.
    pub(super) fn revoked_by(
        &self,
        issuer: CertificateKind,
    ) -> impl Iterator<Item = (&IssuedCertificate, Revocation)> {
        self.certificates
            .iter()
            .filter(move |certificate| certificate.kind.issuer() == issuer)
            .filter_map(|certificate| Some((certificate, certificate.revoked?)))
    }

    /// The one certificate of this serial number, or else the only one of this email address that still holds.
    ///
    /// # Errors
    /// When there is none, or several.
    pub(super) fn find(&self, which: &str, now: OffsetDateTime) -> Result<usize, AuthorityError> {
        let serial = which.replace(':', "").to_ascii_uppercase();
        let all = || self.certificates.iter().enumerate();
        if let Some((index, _)) = all().find(|(_, certificate)| certificate.serial == serial) {
            return Ok(index);
        }
        let mut held = all().filter(|(_, certificate)| {
            certificate.email.as_deref() == Some(which) && certificate.holds_at(now)
        });
        let (index, _) = held.next().ok_or_else(|| AuthorityError::Unknown(which.to_owned()))?;
        match held.next() {
            None => Ok(index),
            Some(_) => Err(AuthorityError::Several(which.to_owned())),
        }
    }
}

impl IssuedCertificate {
    /// Whether it holds at a time: neither revoked nor outside its days.
    #[must_use]
    pub fn holds_at(&self, time: OffsetDateTime) -> bool {
        self.revoked.is_none() && self.not_before <= time && time <= self.not_after
    }
}

impl CertificateKind {
    /// Who certifies it.
    #[must_use]
    pub fn issuer(self) -> Self {
        match self {
            Self::Root | Self::Intermediate => Self::Root,
            Self::Developer => Self::Intermediate,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
            Self::Developer => "developer",
        }
    }
}

impl From<RevocationReason> for rcgen::RevocationReason {
    fn from(reason: RevocationReason) -> Self {
        match reason {
            RevocationReason::Unspecified => Self::Unspecified,
            RevocationReason::KeyCompromise => Self::KeyCompromise,
            RevocationReason::AffiliationChanged => Self::AffiliationChanged,
            RevocationReason::Superseded => Self::Superseded,
            RevocationReason::CessationOfOperation => Self::CessationOfOperation,
            RevocationReason::PrivilegeWithdrawn => Self::PrivilegeWithdrawn,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn issued(serial: &str, email: &str) -> IssuedCertificate {
        IssuedCertificate {
            serial: serial.to_owned(),
            kind: CertificateKind::Developer,
            name: email.to_owned(),
            email: Some(email.to_owned()),
            not_before: datetime!(2026-01-01 0:00 UTC),
            not_after: datetime!(2027-01-01 0:00 UTC),
            revoked: None,
        }
    }

    fn index() -> Index {
        let state = CrlState { number: 1, next_update: datetime!(2026-02-01 0:00 UTC) };
        let mut index = Index::new("Acme".into(), state, state);
        index.certificates = vec![issued("0A", "a@acme.example"), issued("0B", "b@acme.example")];
        index
    }

    #[test]
    fn an_index_is_read_as_it_was_written_and_no_other_version_is() {
        let text = index().to_json().unwrap();
        assert_eq!(Index::parse(&text).unwrap(), index());
        let newer = String::from_utf8(text).unwrap().replace("\"version\": 1", "\"version\": 2");
        assert!(matches!(
            Index::parse(newer.as_bytes()),
            Err(AuthorityError::Version { found: 2, known: 1 })
        ));
        assert!(matches!(Index::parse(b"{\"version\":1,\"x\":2}"), Err(AuthorityError::Index(_))));
    }

    #[test]
    fn a_certificate_is_found_by_its_serial_number_or_by_the_only_address_that_holds() {
        let now = datetime!(2026-06-01 0:00 UTC);
        let mut index = index();
        assert_eq!(index.find("0:a", now).unwrap(), 0);
        assert_eq!(index.find("b@acme.example", now).unwrap(), 1);
        assert!(matches!(index.find("c@acme.example", now), Err(AuthorityError::Unknown(_))));
        index.certificates.push(issued("0C", "b@acme.example"));
        assert!(matches!(index.find("b@acme.example", now), Err(AuthorityError::Several(_))));
        index.certificates[1].revoked = Some(Revocation { at: now, reason: RevocationReason::Superseded });
        assert_eq!(index.find("b@acme.example", now).unwrap(), 2);
        assert_eq!(index.revoked_by(CertificateKind::Intermediate).count(), 1);
        assert_eq!(index.revoked_by(CertificateKind::Root).count(), 0);
    }
}

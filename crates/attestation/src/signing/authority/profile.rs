//! What stands in the certificates and the revocation lists of an authority: names, days, usages, path lengths. Pure; knows
//! neither files nor keys' passphrases.

use pkcs8::ObjectIdentifier;
use pkcs8::der::Encode;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use time::{Duration, OffsetDateTime};

use super::AuthorityError;
use super::index::{CertificateKind, Index, IssuedCertificate};

/// Days that a root holds: ten years.
const ROOT_DAYS: i64 = 3652;
/// Days that an intermediate authority holds: five years.
const INTERMEDIATE_DAYS: i64 = 1826;
/// A certificate holds from a minute before it was made, for those whose clocks are behind.
const BACKDATED: Duration = Duration::MINUTE;
/// Characters of a common name and of an organisation's (RFC 5280, `ub-common-name`).
const MAX_NAME_CHARS: usize = 64;
/// Characters of an email address (RFC 5321, 4.5.3.1).
const MAX_EMAIL_CHARS: usize = 254;
/// Bytes of a serial number; RFC 5280 allows 20.
const SERIAL_BYTES: usize = 16;
/// Certificate policies that one certificate states.
const MAX_POLICIES: usize = 16;

/// `id-ce-certificatePolicies` (RFC 5280, 4.2.1.4).
const CERTIFICATE_POLICIES: &[u64] = &[2, 5, 29, 32];
/// `anyPolicy`: developers' certificates may state any.
const ANY_POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.32.0");

/// Whom a developer's certificate is for, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Developer {
    /// Its `rfc822Name`, by which the signer is known.
    pub email: String,
    /// Its common name; the address where not given.
    pub name: Option<String>,
    /// Days that it holds, and never longer than its issuer.
    pub days: u32,
    /// Certificate policies that it states, such as `1.3.6.1.4.1.57264.1`, by which an operator may tell trust.
    pub policies: Vec<String>,
}

/// A certificate that is to be, and its row in the index.
pub(super) struct Draft {
    pub(super) params: CertificateParams,
    pub(super) row: IssuedCertificate,
}

impl Draft {
    /// The same, which ends no later than its issuer.
    pub(super) fn until(
        mut self,
        issuer_ends: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<Self, AuthorityError> {
        if self.row.not_after > issuer_ends {
            self.row.not_after = issuer_ends;
            self.params.not_after = issuer_ends;
        }
        if self.row.not_after > now {
            return Ok(self);
        }
        Err(match self.row.kind {
            CertificateKind::Developer => AuthorityError::Ended(issuer_ends),
            CertificateKind::Root | CertificateKind::Intermediate => AuthorityError::RootEnded(issuer_ends),
        })
    }
}

pub(super) fn root(organisation: &str, now: OffsetDateTime) -> Result<Draft, AuthorityError> {
    let name = format!("{organisation} Root CA");
    let mut draft = draft(CertificateKind::Root, &name, organisation, now, ROOT_DAYS)?;
    draft.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    draft.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(draft)
}

pub(super) fn intermediate(organisation: &str, now: OffsetDateTime) -> Result<Draft, AuthorityError> {
    let name = format!("{organisation} Agent CA");
    let mut draft = draft(CertificateKind::Intermediate, &name, organisation, now, INTERMEDIATE_DAYS)?;
    draft.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    draft.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Of all that it could certify, agents' signers alone.
    draft.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    draft.params.custom_extensions = vec![policies(&[ANY_POLICY])?];
    Ok(draft)
}

/// A developer's, which ends no later than its issuer.
pub(super) fn developer(
    developer: &Developer,
    organisation: &str,
    issuer_ends: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<Draft, AuthorityError> {
    let email = check_email(&developer.email)?;
    let name = developer.name.as_deref().unwrap_or(&developer.email);
    let draft = draft(CertificateKind::Developer, name, organisation, now, i64::from(developer.days))?;
    let mut draft = draft.until(issuer_ends, now)?;
    draft.row.email = Some(developer.email.clone());
    draft.params.subject_alt_names = vec![SanType::Rfc822Name(email)];
    draft.params.is_ca = IsCa::ExplicitNoCa;
    draft.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    draft.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    if developer.policies.len() > MAX_POLICIES {
        return Err(AuthorityError::Policies(MAX_POLICIES));
    }
    if !developer.policies.is_empty() {
        let parsed: Result<Vec<_>, _> = developer
            .policies
            .iter()
            .map(|policy| ObjectIdentifier::new(policy).map_err(|_| AuthorityError::Policy(policy.clone())))
            .collect();
        draft.params.custom_extensions = vec![policies(&parsed?)?];
    }
    Ok(draft)
}

fn draft(
    kind: CertificateKind,
    name: &str,
    organisation: &str,
    now: OffsetDateTime,
    days: i64,
) -> Result<Draft, AuthorityError> {
    check_name(name)?;
    check_name(organisation)?;
    let serial = new_serial()?;
    let (not_before, not_after) = (now - BACKDATED, now + Duration::days(days));
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::OrganizationName, organisation);
    distinguished_name.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.not_before = not_before;
    params.not_after = not_after;
    params.distinguished_name = distinguished_name;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    let serial = hex::encode_upper(serial);
    let row = IssuedCertificate {
        serial,
        kind,
        name: name.to_owned(),
        email: None,
        not_before,
        not_after,
        revoked: None,
    };
    Ok(Draft { params, row })
}

/// Random, so that nobody can tell how many were issued, nor prepare a collision; positive, and of full length.
fn new_serial() -> Result<[u8; SERIAL_BYTES], AuthorityError> {
    let mut serial = [0; SERIAL_BYTES];
    SystemRandom::new().fill(&mut serial).map_err(|_| AuthorityError::NoRandomness)?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(serial)
}

/// `SEQUENCE OF PolicyInformation`, each of which is a sequence with an identifier alone.
fn policies(identifiers: &[ObjectIdentifier]) -> Result<CustomExtension, AuthorityError> {
    let information: Vec<Vec<ObjectIdentifier>> =
        identifiers.iter().map(|identifier| vec![*identifier]).collect();
    let encoded = information.to_der().map_err(|error| AuthorityError::Encoding(error.to_string()))?;
    Ok(CustomExtension::from_oid_content(CERTIFICATE_POLICIES, encoded))
}

pub(super) fn check_name(name: &str) -> Result<(), AuthorityError> {
    let fits = (1..=MAX_NAME_CHARS).contains(&name.chars().count());
    if fits && name.trim() == name && !name.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(AuthorityError::Name { name: name.to_owned(), limit: MAX_NAME_CHARS })
    }
}

/// What an `rfc822Name` may be: a mailbox in ASCII without quotes, comments or white space, nor a `/`, since files are named
/// by it, nor a `*`, which stands for everybody where an operator says whom they trust.
fn check_email(email: &str) -> Result<Ia5String, AuthorityError> {
    let refused = || AuthorityError::Email(email.to_owned());
    let (local, domain) = email.split_once('@').ok_or_else(refused)?;
    let is_atom = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'+-=?^_`{|}~".contains(&byte))
    };
    let is_label = |text: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && !text.ends_with('-')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let holds =
        email.len() <= MAX_EMAIL_CHARS && local.split('.').all(is_atom) && domain.split('.').all(is_label);
    if holds { Ia5String::try_from(email).map_err(|_| refused()) } else { Err(refused()) }
}

/// The revocation list of one issuer.
pub(super) fn revocation_list(
    index: &Index,
    issuer: CertificateKind,
    number: u64,
    now: OffsetDateTime,
    next_update: OffsetDateTime,
) -> Result<CertificateRevocationListParams, AuthorityError> {
    let revoked = index.revoked_by(issuer).map(|(certificate, revocation)| {
        let serial = hex::decode(&certificate.serial)
            .map_err(|_| AuthorityError::Index(format!("`{}` is no serial number", certificate.serial)))?;
        Ok(RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial),
            revocation_time: revocation.at,
            // RFC 5280, 5.3.1: left out rather than `unspecified`.
            reason_code: Some(revocation.reason.into())
                .filter(|reason| *reason != rcgen::RevocationReason::Unspecified),
            invalidity_date: None,
        })
    });
    Ok(CertificateRevocationListParams {
        this_update: now,
        next_update,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect::<Result<_, AuthorityError>>()?,
        // As in the issuer's certificate, which was made here.
        key_identifier_method: KeyIdMethod::Sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_mailboxes_and_nothing_else() {
        for good in ["a@b", "alice.o'neil+x@sub.example.com", "x_1@a-b.example"] {
            check_email(good).unwrap();
        }
        let long = format!("{}@example.com", "x".repeat(250));
        for bad in [
            "",
            "alice",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "../a@b",
            "a@-b",
            "a@b..c",
            ".a@b",
            "ä@b.example",
            "a@b\n",
            "*@b",
            "a*b@c",
            "a@*",
            "a@*.example",
            &long,
        ] {
            assert!(matches!(check_email(bad), Err(AuthorityError::Email(_))), "{bad}");
        }
    }

    #[test]
    fn names_are_short_and_printable() {
        check_name("Zoë Müller").unwrap();
        for bad in ["", " x", "x\ny", "x\u{7f}", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn serial_numbers_are_positive_full_and_random() {
        let (one, two) = (new_serial().unwrap(), new_serial().unwrap());
        assert_ne!(one, two);
        for serial in [one, two] {
            assert_eq!(serial[0] & 0xc0, 0x40);
        }
    }
}

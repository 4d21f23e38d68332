//! A certificate authority in a folder, for development and small teams: a root, an intermediate authority below it, and the
//! developers that it certifies. Owns the folder; what stands in a certificate is in `profile`, what was issued in `index`.
//!
//! ```text
//! authority.json              what was issued and revoked
//! certs/root_ca.crt           what operators trust
//! certs/intermediate_ca.crt
//! private/root_ca.key         0600, in a folder of 0700; can be kept elsewhere between its uses
//! private/intermediate_ca.key
//! crl/root_ca.crl  crl/intermediate_ca.crl
//! issued/<serial>.crt
//! ```
//!
//! Invariant: a certificate is in the index before anybody has it; files are replaced whole; one process at a time changes
//! the folder.

mod error;
mod index;
mod profile;

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertifiedIssuer, Issuer, PublicKeyData as _, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

pub use self::error::AuthorityError;
pub use self::index::{CertificateKind, IssuedCertificate, Revocation, RevocationReason};
use self::index::{CrlState, Index};
pub use self::profile::Developer;
use self::profile::Draft;
use crate::algorithm::Algorithm;
use crate::certificate::{Certificate, CertificateFault};
use crate::public_key::PublicKey;
use crate::signing::atomic::{self, Readers};
use crate::signing::key::{KeyFile, NewKey, PrivateKey};

/// Bytes of an index at most: some 50,000 certificates.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// Bytes of a certificate or a key of the authority's own.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// How long one process waits for another that changes the folder.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it looks.
const LOCK_POLL: Duration = Duration::from_millis(20);
/// Days until the first revocation list of a root, whose key is seldom at hand, is to be followed by another.
const ROOT_CRL_DAYS: i64 = 365;

const INDEX: &str = "authority.json";
const LOCK: &str = "authority.lock";

/// An authority, which no other process changes meanwhile.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    index: Index,
    /// Locked for as long as it is open.
    _lock: File,
}

/// What a new authority is to be.
#[derive(Debug)]
pub struct Founding {
    /// Stands in every name that it issues: `<organisation> Root CA`.
    pub organisation: String,
    /// Of its keys; RSA keys are not made here.
    pub algorithm: Algorithm,
    /// What its keys are encrypted by; none leaves them readable to their owner.
    pub passphrase: Option<Zeroizing<String>>,
    /// Days until the first revocation list of developers is to be followed by another.
    pub crl_days: u32,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its row in the index.
    pub certificate: IssuedCertificate,
    /// The certificate and the intermediate authority's after it, in PEM: what is signed with.
    pub chain_pem: String,
}

impl Authority {
    /// Makes an authority in `folder`, which must not be there or be empty: all of it, or nothing.
    ///
    /// # Errors
    /// When the folder is there, the names cannot stand in a certificate, or it cannot be written.
    pub fn init(folder: &Path, founding: &Founding, now: OffsetDateTime) -> Result<(), AuthorityError> {
        let exists = || AuthorityError::Exists(folder.to_owned());
        if fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()) || folder.is_file() {
            return Err(exists());
        }
        let now = whole_seconds(now);
        let organisation = &founding.organisation;
        let made = |source| AuthorityError::Key { path: folder.to_owned(), source };
        let root_key = NewKey::generate(founding.algorithm).map_err(made)?;
        let intermediate_key = NewKey::generate(founding.algorithm).map_err(made)?;
        let (root, intermediate) =
            (profile::root(organisation, now)?, profile::intermediate(organisation, now)?);
        let root_issuer = CertifiedIssuer::self_signed(root.params.clone(), root_key.key().map_err(made)?)
            .map_err(encoding)?;
        let intermediate_issuer = CertifiedIssuer::signed_by(
            intermediate.params.clone(),
            intermediate_key.key().map_err(made)?,
            &root_issuer,
        )
        .map_err(encoding)?;

        let state = |days| CrlState { number: 1, next_update: now + time::Duration::days(days) };
        let mut index =
            Index::new(organisation.clone(), state(ROOT_CRL_DAYS), state(i64::from(founding.crl_days)));
        let list = |issuer, state: CrlState, key: &Issuer<'_, PrivateKey>| {
            signed_list(&index, issuer, state, now, key)
        };
        let root_crl = list(CertificateKind::Root, index.root_crl, &root_issuer)?;
        let intermediate_crl =
            list(CertificateKind::Intermediate, index.intermediate_crl, &intermediate_issuer)?;
        index.certificates = vec![root.row, intermediate.row];

        let parent =
            folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(at(parent))?;
        let begun = tempfile::Builder::new().prefix(".authority").tempdir_in(parent).map_err(at(parent))?;
        let inside = |name: &str| begun.path().join(name);
        for name in ["certs", "crl", "issued"] {
            fs::create_dir(inside(name)).map_err(at(&inside(name)))?;
        }
        DirBuilder::new().mode(0o700).create(inside("private")).map_err(at(&inside("private")))?;
        for (kind, key) in
            [(CertificateKind::Root, &root_key), (CertificateKind::Intermediate, &intermediate_key)]
        {
            let pem = match &founding.passphrase {
                Some(passphrase) => key.to_encrypted_pem(passphrase),
                None => key.to_pem(),
            };
            write(&inside(kind.key_file()), pem.map_err(made)?.as_bytes(), Readers::Owner)?;
        }
        for (name, text) in [
            (CertificateKind::Root.certificate_file(), root_issuer.pem()),
            (CertificateKind::Intermediate.certificate_file(), intermediate_issuer.pem()),
            (CertificateKind::Root.crl_file(), root_crl),
            (CertificateKind::Intermediate.crl_file(), intermediate_crl),
        ] {
            write(&inside(name), text.as_bytes(), Readers::Everybody)?;
        }
        write(&inside(INDEX), &index.to_json()?, Readers::Everybody)?;
        fs::set_permissions(begun.path(), Permissions::from_mode(0o755)).map_err(at(begun.path()))?;
        // Of two that do this at once, one finds the other's folder.
        fs::rename(begun.path(), folder).map_err(|source| match source.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => exists(),
            _ => AuthorityError::File { path: folder.to_owned(), source },
        })
    }

    /// Opens an authority, and waits for others that have it open.
    ///
    /// # Errors
    /// When there is none, others have it for too long, or its index cannot be read.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let path = folder.join(INDEX);
        if !path.is_file() {
            return Err(AuthorityError::Missing(folder.to_owned()));
        }
        let lock = lock(folder)?;
        let index = Index::parse(&read(&path, MAX_INDEX_BYTES)?)?;
        Ok(Self { folder: folder.to_owned(), index, _lock: lock })
    }

    /// All that was issued, oldest first.
    #[must_use]
    pub fn certificates(&self) -> &[IssuedCertificate] {
        &self.index.certificates
    }

    /// The certificate of `serial`, or the only one of an email address that holds.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn find(&self, which: &str, now: OffsetDateTime) -> Result<&IssuedCertificate, AuthorityError> {
        let found = self.index.find(which, now)?;
        self.index.certificates.get(found).ok_or_else(|| AuthorityError::Unknown(which.to_owned()))
    }

    /// When the newest revocation list of an issuer is to be followed by another.
    #[must_use]
    pub fn next_update(&self, issuer: CertificateKind) -> OffsetDateTime {
        self.index.crl(issuer).next_update
    }

    /// Where the files of an issuer are.
    #[must_use]
    pub fn certificate_path(&self, issuer: CertificateKind) -> PathBuf {
        self.folder.join(issuer.certificate_file())
    }

    /// Where the newest revocation list of an issuer is.
    #[must_use]
    pub fn crl_path(&self, issuer: CertificateKind) -> PathBuf {
        self.folder.join(issuer.crl_file())
    }

    /// Where the private key of an issuer is.
    #[must_use]
    pub fn key_path(&self, issuer: CertificateKind) -> PathBuf {
        self.folder.join(issuer.key_file())
    }

    /// The private key of an issuer, which may still need its passphrase.
    ///
    /// # Errors
    /// When it is not there, others can read it, or it is no key.
    pub fn key(&self, issuer: CertificateKind) -> Result<KeyFile, AuthorityError> {
        let path = self.key_path(issuer);
        let mode = path.metadata().map_err(at(&path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(AuthorityError::Exposed(path));
        }
        let text = Zeroizing::new(read(&path, MAX_FILE_BYTES)?);
        let text = Zeroizing::new(String::from_utf8_lossy(&text).into_owned());
        KeyFile::parse(&text).map_err(|source| AuthorityError::Key { path, source })
    }

    /// Certifies a developer, whose key made `request` (PKCS #10, in PEM). Of the request nothing is taken but the key,
    /// whose owner has signed it.
    ///
    /// # Errors
    /// When the request does not hold, the name cannot stand in a certificate, or the authority itself no longer holds.
    pub fn issue(
        &mut self,
        key: PrivateKey,
        developer: &Developer,
        request: &str,
        now: OffsetDateTime,
    ) -> Result<Issued, AuthorityError> {
        let public_key = requesting_key(request)?;
        let now = whole_seconds(now);
        let issuer_ends = self.index.newest(CertificateKind::Intermediate)?.not_after;
        let Draft { params, row } =
            profile::developer(developer, &self.index.organisation, issuer_ends, now)?;
        let (issuer_pem, issuer) = self.issuer(CertificateKind::Intermediate, key)?;
        let certificate = params.signed_by(&public_key, &issuer).map_err(encoding)?;
        self.index.certificates.push(row.clone());
        self.save()?;
        let path = self.folder.join("issued").join(format!("{}.crt", row.serial));
        write(&path, certificate.pem().as_bytes(), Readers::Everybody)?;
        Ok(Issued { certificate: row, chain_pem: certificate.pem() + &issuer_pem })
    }

    /// Certifies the intermediate authority anew, for its key as it is, by the root's `key`: what it has issued holds by either
    /// certificate, and its revocation lists go on. It ends no later than the root.
    ///
    /// # Errors
    /// When it was revoked, the root has ended or the key is not its, or a file cannot be written.
    pub fn renew(
        &mut self,
        key: PrivateKey,
        now: OffsetDateTime,
    ) -> Result<IssuedCertificate, AuthorityError> {
        let now = whole_seconds(now);
        self.index.newest(CertificateKind::Intermediate)?;
        let root_ends = self.index.newest(CertificateKind::Root)?.not_after;
        let Draft { params, row } =
            profile::intermediate(&self.index.organisation, now)?.until(root_ends, now)?;
        let path = self.certificate_path(CertificateKind::Intermediate);
        let pem = String::from_utf8_lossy(&read(&path, MAX_FILE_BYTES)?).into_owned();
        let unreadable = |fault| AuthorityError::Certificate { path: path.clone(), fault };
        let renewed = Certificate::from_pem(&pem).map_err(unreadable)?;
        let public_key = renewed.public_key().map_err(|_| unreadable(CertificateFault::Malformed))?;
        let public_key = SubjectPublicKeyInfo::from_der(public_key.as_der()).map_err(encoding)?;
        let (_, root) = self.issuer(CertificateKind::Root, key)?;
        let certificate = params.signed_by(&public_key, &root).map_err(encoding)?;
        self.index.certificates.push(row.clone());
        self.save()?;
        write(&path, certificate.pem().as_bytes(), Readers::Everybody)?;
        Ok(row)
    }

    /// Revokes a certificate, and publishes the list of its issuer, whose `key` this is, for another `days`.
    ///
    /// # Errors
    /// When there is no such certificate, it is revoked already, or a file cannot be written.
    pub fn revoke(
        &mut self,
        key: PrivateKey,
        which: &str,
        reason: RevocationReason,
        days: u32,
        now: OffsetDateTime,
    ) -> Result<IssuedCertificate, AuthorityError> {
        let now = whole_seconds(now);
        let found = self.index.find(which, now)?;
        let unknown = || AuthorityError::Unknown(which.to_owned());
        let certificate = self.index.certificates.get_mut(found).ok_or_else(unknown)?;
        if certificate.kind == CertificateKind::Root {
            return Err(AuthorityError::Root);
        }
        if certificate.revoked.is_some() {
            return Err(AuthorityError::AlreadyRevoked(certificate.serial.clone()));
        }
        certificate.revoked = Some(Revocation { at: now, reason });
        let certificate = certificate.clone();
        self.publish(certificate.kind.issuer(), key, days, now)?;
        Ok(certificate)
    }

    /// Publishes a new revocation list of an issuer, whose `key` this is, to be followed by another after `days`.
    ///
    /// # Errors
    /// When the key is another's, or a file cannot be written.
    pub fn publish(
        &mut self,
        issuer: CertificateKind,
        key: PrivateKey,
        days: u32,
        now: OffsetDateTime,
    ) -> Result<(), AuthorityError> {
        let now = whole_seconds(now);
        let (_, signer) = self.issuer(issuer, key)?;
        let number = self.index.crl(issuer).number.saturating_add(1);
        let state = CrlState { number, next_update: now + time::Duration::days(i64::from(days)) };
        let list = signed_list(&self.index, issuer, state, now, &signer)?;
        *self.index.crl_mut(issuer) = state;
        // The number first: it is never given to two lists, even where the second file is not written.
        self.save()?;
        write(&self.crl_path(issuer), list.as_bytes(), Readers::Everybody)
    }

    /// An issuer's certificate in PEM, and the issuer with its key, which must be its own.
    fn issuer(
        &self,
        kind: CertificateKind,
        key: PrivateKey,
    ) -> Result<(String, Issuer<'static, PrivateKey>), AuthorityError> {
        let path = self.certificate_path(kind);
        let pem = String::from_utf8_lossy(&read(&path, MAX_FILE_BYTES)?).into_owned();
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(encoding)?;
        let certificate = Certificate::from_pem(&pem)
            .map_err(|fault| AuthorityError::Certificate { path: path.clone(), fault })?;
        let own = issuer.key().subject_public_key_info();
        if certificate.public_key().is_ok_and(|key| key.as_der() == own) {
            Ok((pem, issuer))
        } else {
            Err(AuthorityError::WrongKey(self.key_path(kind)))
        }
    }

    fn save(&self) -> Result<(), AuthorityError> {
        let path = self.folder.join(INDEX);
        let text = self.index.to_json()?;
        if u64::try_from(text.len()).is_ok_and(|length| length > MAX_INDEX_BYTES) {
            return Err(AuthorityError::TooLarge { path, limit: MAX_INDEX_BYTES });
        }
        write(&path, &text, Readers::Same)
    }
}

impl CertificateKind {
    fn certificate_file(self) -> &'static str {
        match self {
            Self::Root => "certs/root_ca.crt",
            Self::Intermediate | Self::Developer => "certs/intermediate_ca.crt",
        }
    }

    fn key_file(self) -> &'static str {
        match self {
            Self::Root => "private/root_ca.key",
            Self::Intermediate | Self::Developer => "private/intermediate_ca.key",
        }
    }

    fn crl_file(self) -> &'static str {
        match self {
            Self::Root => "crl/root_ca.crl",
            Self::Intermediate | Self::Developer => "crl/intermediate_ca.crl",
        }
    }
}

/// A revocation list in PEM.
fn signed_list(
    index: &Index,
    issuer: CertificateKind,
    state: CrlState,
    now: OffsetDateTime,
    signer: &Issuer<'_, PrivateKey>,
) -> Result<String, AuthorityError> {
    let params = profile::revocation_list(index, issuer, state.number, now, state.next_update)?;
    params.signed_by(signer).and_then(|list| list.pem()).map_err(encoding)
}

/// The key that made a certificate request, and has signed it.
fn requesting_key(request: &str) -> Result<SubjectPublicKeyInfo, AuthorityError> {
    let refused = |why: &str| AuthorityError::Request(why.to_owned());
    let der = CertificateSigningRequestDer::from_pem_slice(request.as_bytes())
        .map_err(|_| refused("it has no `BEGIN CERTIFICATE REQUEST`"))?;
    let (_, request) = X509CertificationRequest::from_der(&der)
        .map_err(|_| refused("it is no certificate request (PKCS #10) that can be read"))?;
    let key = request.certification_request_info.subject_pki.raw;
    // Its size first: the signature is verified by it.
    PublicKey::from_der(key).map_err(|fault| refused(&fault.to_string()))?;
    request.verify_signature().map_err(|_| refused("the key in it has not signed it"))?;
    SubjectPublicKeyInfo::from_der(key).map_err(|error| refused(&error.to_string()))
}

/// Certificates count in seconds.
fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.truncate_to_second().to_offset(time::UtcOffset::UTC)
}

/// Waits for its turn to change a folder.
fn lock(folder: &Path) -> Result<File, AuthorityError> {
    let path = folder.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(AuthorityError::File { path, source }),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(AuthorityError::Locked(folder.to_owned()));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
        }
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, AuthorityError> {
    let file = File::open(path).map_err(at(path))?;
    // Room for all of it at once: of a key that grew, parts would be left behind.
    let length = file.metadata().map_err(at(path))?.len().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(at(path))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(AuthorityError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), AuthorityError> {
    atomic::replace(path, bytes, readers).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    let path = path.to_owned();
    |source| AuthorityError::File { path, source }
}

#[expect(clippy::needless_pass_by_value, reason = "to be passed to `map_err` as it is")]
fn encoding(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Encoding(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_changed_by_a_bit_certifies_no_other_key() {
        let key = NewKey::generate(Algorithm::EcdsaP256).unwrap();
        let pem = key.certificate_request().unwrap();
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap();
        let encode = |der: &[u8]| {
            pkcs8::der::pem::encode_string("CERTIFICATE REQUEST", pkcs8::der::pem::LineEnding::LF, der)
                .unwrap()
        };
        let own = requesting_key(&encode(&der)).unwrap();
        for index in 0..der.len() {
            for bit in 0..8 {
                let mut changed = der.to_vec();
                changed[index] ^= 1 << bit;
                // The reader takes some liberties with what is around the signed part.
                let read = requesting_key(&encode(&changed));
                assert!(read.is_err() || read.is_ok_and(|key| key == own), "byte {index}, bit {bit}");
            }
            assert!(requesting_key(&encode(&der[..index])).is_err(), "cut at {index}");
        }
    }
}

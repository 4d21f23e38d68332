//! A public key: which algorithm it has, and whether it is worth anything. Whoever verifies by a key asks here first, so that
//! no arithmetic is done on a number that a stranger made too large.
//!
//! Invariant: a `PublicKey` is of one of the algorithms, on its curve or within its sizes.

use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::algorithm::Algorithm;

/// Bits of an RSA modulus at least (NIST SP 800-57).
const LEAST_RSA_BITS: usize = 2048;
/// Bits of an RSA modulus; a verification costs their square.
const MAX_RSA_BITS: usize = 8192;
/// An RSA exponent at least (FIPS 186-5).
const LEAST_RSA_EXPONENT: u64 = 65_537;
/// An RSA exponent; a verification costs its bits.
const MAX_RSA_EXPONENT: u64 = (1 << 33) - 1;
/// Points of Ed25519 of small order, as they are written without the sign: by such a key a signature over anything can be made
/// by anybody (<https://eprint.iacr.org/2020/1244>, table 1).
const SMALL_ORDER: [&str; 5] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
];
/// Bytes of a public key, as PEM or as DER.
const MAX_KEY_BYTES: usize = 4 << 10;

/// A key that signatures can be verified by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    spki: Vec<u8>,
}

/// Why a key is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Neither PEM nor DER of a public key.
    #[error("it is no public key in PEM (`BEGIN PUBLIC KEY`) or DER")]
    Malformed,
    /// Another kind of key.
    #[error("it is of a kind that is not taken (`{0}`); use RSA, ECDSA on P-256 or P-384, or Ed25519")]
    Unsupported(String),
    /// An RSA modulus that is too short or too long.
    #[error("it has {0} bits; an RSA key has {LEAST_RSA_BITS} to {MAX_RSA_BITS}")]
    RsaBits(usize),
    /// An RSA exponent that is even, too small or too large.
    #[error("its RSA exponent is not an odd number from {LEAST_RSA_EXPONENT} to 2^33; use 65537")]
    RsaExponent,
    /// A point of Ed25519 that is of small order, or written as a number beyond the field.
    #[error("its point is none that an Ed25519 key has, and anybody could sign for it; make another key")]
    Ed25519Point,
    /// A modulus that is even cannot be the product of two large primes.
    #[error("its RSA modulus is not a positive odd number")]
    RsaModulus,
}

/// A signature that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotSigned;

impl PublicKey {
    /// A key out of PEM (`BEGIN PUBLIC KEY`) or DER.
    ///
    /// # Errors
    /// Anything else, and keys that are weak, of another kind or too large.
    pub fn read(bytes: &[u8]) -> Result<Self, KeyFault> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(KeyFault::Malformed);
        }
        // DER of a public key is a sequence, and PEM is text.
        if bytes.first() == Some(&0x30) {
            return Self::from_der(bytes);
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(bytes).map_err(|_| KeyFault::Malformed)?;
        Self::from_der(&der)
    }

    pub(crate) fn from_der(der: &[u8]) -> Result<Self, KeyFault> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyFault::Malformed)?;
        if !rest.is_empty() {
            return Err(KeyFault::Malformed);
        }
        Self::of(&spki)
    }

    pub(crate) fn of(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyFault> {
        let algorithm = match spki.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => {
                check_rsa(&spki.subject_public_key.data)?;
                Algorithm::RsaSha256
            }
            "1.2.840.10045.2.1" => {
                let curve = spki.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
                match curve.map(|curve| curve.to_id_string()).as_deref() {
                    Some("1.2.840.10045.3.1.7") => Algorithm::EcdsaP256,
                    Some("1.3.132.0.34") => Algorithm::EcdsaP384,
                    other => {
                        let curve = other.unwrap_or("of its own");
                        return Err(KeyFault::Unsupported(format!("the curve {curve}")));
                    }
                }
            }
            "1.3.101.112" => {
                check_ed25519(&spki.subject_public_key.data)?;
                Algorithm::Ed25519
            }
            other => return Err(KeyFault::Unsupported(other.to_owned())),
        };
        Ok(Self { algorithm, spki: spki.raw.to_vec() })
    }

    /// The one algorithm that it signs by.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `SubjectPublicKeyInfo` (RFC 5280) in DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of its DER: `sha256:<hex>`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("sha256:{}", hex::encode(Sha256::digest(&self.spki)))
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), NotSigned> {
        let spki = SubjectPublicKeyInfoDer::from(self.spki.as_slice());
        let key = webpki::RawPublicKeyEntity::try_from(&spki).map_err(|_| NotSigned)?;
        key.verify_signature(self.algorithm.verification(), message, signature).map_err(|_| NotSigned)
    }
}

fn check_ed25519(point: &[u8]) -> Result<(), KeyFault> {
    let mut point: [u8; 32] = point.try_into().map_err(|_| KeyFault::Ed25519Point)?;
    // The highest bit is the sign of the other coordinate.
    let [first, middle @ .., last] = &mut point;
    *last &= 0x7f;
    // 2^255 - 19 and more: a second way of writing what is less, and so a second name for one key.
    let is_beyond = *last == 0x7f && middle.iter().all(|byte| *byte == 0xff) && *first >= 0xed;
    if is_beyond || SMALL_ORDER.contains(&hex::encode(point).as_str()) {
        return Err(KeyFault::Ed25519Point);
    }
    Ok(())
}

fn check_rsa(bits: &[u8]) -> Result<(), KeyFault> {
    let (_, key) = RSAPublicKey::from_der(bits).map_err(|_| KeyFault::Malformed)?;
    let modulus = match key.modulus {
        [first, ..] if first & 0x80 != 0 => return Err(KeyFault::RsaModulus),
        [0, rest @ ..] => rest,
        all => all,
    };
    let leading = modulus.first().map_or(0, |first| first.leading_zeros());
    let bits = (modulus.len() * 8).saturating_sub(usize::try_from(leading).unwrap_or(0));
    if !(LEAST_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(KeyFault::RsaBits(bits));
    }
    if modulus.last().is_none_or(|last| last & 1 == 0) {
        return Err(KeyFault::RsaModulus);
    }
    let exponent = key.try_exponent().map_err(|_| KeyFault::RsaExponent)?;
    if !(LEAST_RSA_EXPONENT..=MAX_RSA_EXPONENT).contains(&exponent) || exponent & 1 == 0 {
        return Err(KeyFault::RsaExponent);
    }
    Ok(())
}

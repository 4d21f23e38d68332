//! Private keys: read from PEM as OpenSSL writes it (PKCS #8, encrypted PKCS #8, SEC 1, PKCS #1), made anew, and used to sign.
//! Knows nothing of what is signed, nor of where a key lies.
//!
//! Invariant: what was read of a key is wiped from memory when it is dropped, no error quotes a key, and whoever made a key
//! file can make its reader neither wait nor allocate beyond what [`MAX_ITERATIONS`] and [`MAX_SCRYPT_BYTES`] cost.

use std::fmt;

use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::pem::LineEnding;
use pkcs8::der::{Decode, Encode, SecretDocument};
use pkcs8::pkcs5::pbes2::{self, Kdf};
use pkcs8::pkcs5::{self, EncryptionScheme};
use pkcs8::{AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef};
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use sec1::EcPrivateKey;
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;

/// Rounds of PBKDF2 that a key file may ask for: some ten seconds of computing.
const MAX_ITERATIONS: u32 = 10_000_000;
/// Memory that the scrypt of a key file may ask for.
const MAX_SCRYPT_BYTES: u64 = 256 << 20;
/// Rounds of PBKDF2 in key files made here, as OWASP recommends for HMAC-SHA-256.
const ITERATIONS: u32 = 600_000;

/// The wrapping of a raw Ed25519 key within PKCS #8 (RFC 8410): an OCTET STRING of 32 bytes.
const ED25519_SEED_BYTES: usize = 32;

/// `rsaEncryption` (RFC 8017).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-ecPublicKey` (RFC 5480).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `id-Ed25519` (RFC 8410).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// `secp256r1` (RFC 5480).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// `secp384r1` (RFC 5480).
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// A private key that can sign.
pub struct PrivateKey {
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// What a key file turned out to hold.
#[derive(Debug)]
pub enum KeyFile {
    /// A key that can be used at once.
    Clear(Box<PrivateKey>),
    /// A key behind a passphrase.
    Encrypted(EncryptedKey),
}

/// A key behind a passphrase: PKCS #8 by PBES2 (RFC 8018).
pub struct EncryptedKey {
    document: SecretDocument,
}

/// A key that was made here and is to be written: PKCS #8, as DER.
pub struct NewKey {
    document: SecretDocument,
}

/// Why a key cannot be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No block of PEM that holds a private key.
    #[error(
        "there is no private key in it; a key file has a block that begins `-----BEGIN PRIVATE KEY-----`"
    )]
    NoKey,
    /// More than one key.
    #[error("there are several private keys in it; keep the one that is to sign")]
    SeveralKeys,
    /// A form of OpenSSH's own.
    #[error("it is a key of OpenSSH's own form; write it anew with `ssh-keygen -p -m PKCS8 -f FILE`")]
    OpenSsh,
    /// OpenSSL's encryption before PKCS #8, which derives the key by one round of MD5.
    #[error(
        "it is encrypted in a form that is not safe (`Proc-Type: 4,ENCRYPTED`); write it anew with `openssl pkcs8 -topk8 -in FILE -out NEW`"
    )]
    LegacyEncryption,
    /// Encrypted by something else than PBES2 with AES.
    #[error(
        "it is encrypted in a form that is not read; write it anew with `openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW`"
    )]
    UnknownEncryption,
    /// The key file asks for more computing than a key needs.
    #[error(
        "deriving its key would take more than {MAX_ITERATIONS} rounds of PBKDF2 or {MAX_SCRYPT_BYTES} bytes of scrypt; write it anew with `openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW`"
    )]
    TooCostly,
    /// The passphrase does not open it.
    #[error("the passphrase does not open it")]
    WrongPassphrase,
    /// Not what its block says.
    #[error("its block `{0}` does not hold such a key")]
    Malformed(String),
    /// Of an algorithm that does not sign here.
    #[error("it is a key of another algorithm; RSA, ECDSA on P-256 and P-384, and Ed25519 can sign")]
    UnsupportedAlgorithm,
    /// An EC key without its public half.
    #[error("it has no public half; write it anew with `openssl ec -in FILE -out NEW`")]
    NoPublicHalf,
    /// RSA that is too short, or longer than what signs here.
    #[error("an RSA key has 2048 to 4096 bits here; a longer one can sign by a signer command")]
    RsaSize,
    /// Its parts do not belong together.
    #[error("its parts do not belong together: {0}")]
    Rejected(String),
    /// Keys of this algorithm are made by others.
    #[error(
        "RSA keys are not made here; make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out FILE`"
    )]
    NotMadeHere,
    /// The machine gave no randomness, or the key could not be encoded.
    #[error("the key could not be made")]
    NotMade,
}

impl KeyFile {
    /// Reads the one private key of a PEM file; other blocks, such as `EC PARAMETERS` and certificates, are passed over.
    ///
    /// # Errors
    /// When there is no such key, or it cannot sign here.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = private_blocks(text);
        let (label, block) = keys.next().ok_or(KeyError::NoKey)?;
        if keys.next().is_some() {
            return Err(KeyError::SeveralKeys);
        }
        if label == "OPENSSH PRIVATE KEY" {
            return Err(KeyError::OpenSsh);
        }
        if block.contains("Proc-Type:") {
            return Err(KeyError::LegacyEncryption);
        }
        let malformed = || KeyError::Malformed(label.to_owned());
        let (_, document) = SecretDocument::from_pem(block).map_err(|_| malformed())?;
        match label {
            "PRIVATE KEY" => PrivateKey::from_pkcs8(document.as_bytes()).map(Self::clear),
            "ENCRYPTED PRIVATE KEY" => EncryptedKey::new(document).map(Self::Encrypted),
            "EC PRIVATE KEY" => {
                let key = EcPrivateKey::from_der(document.as_bytes()).map_err(|_| malformed())?;
                let curve = key.parameters.and_then(sec1::EcParameters::named_curve);
                PrivateKey::ecdsa(&key, curve).map(Self::clear)
            }
            "RSA PRIVATE KEY" => PrivateKey::rsa(document.as_bytes()).map(Self::clear),
            _ => Err(KeyError::UnsupportedAlgorithm),
        }
    }

    fn clear(key: PrivateKey) -> Self {
        Self::Clear(Box::new(key))
    }
}

/// The blocks of private keys, with their labels.
fn private_blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("-----BEGIN ").filter_map(|(start, begin)| {
        let rest = text.get(start..)?;
        let (label, _) = rest.get(begin.len()..)?.split_once("-----")?;
        if !label.ends_with("PRIVATE KEY") || label.contains('\n') {
            return None;
        }
        let end = format!("-----END {label}-----");
        let length = rest.find(&end)? + end.len();
        Some((label, rest.get(..length)?))
    })
}

impl EncryptedKey {
    fn new(document: SecretDocument) -> Result<Self, KeyError> {
        let info = EncryptedPrivateKeyInfoRef::from_der(document.as_bytes())
            .map_err(|_| KeyError::UnknownEncryption)?;
        let EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else {
            return Err(KeyError::UnknownEncryption);
        };
        let bearable = match &parameters.kdf {
            Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= MAX_ITERATIONS,
            Kdf::Scrypt(scrypt) => {
                let block = 128 * u64::from(scrypt.block_size) * u64::from(scrypt.parallelization);
                scrypt.cost_parameter.checked_mul(block).is_some_and(|bytes| bytes <= MAX_SCRYPT_BYTES)
            }
            _ => return Err(KeyError::UnknownEncryption),
        };
        if bearable { Ok(Self { document }) } else { Err(KeyError::TooCostly) }
    }

    /// The key, by its passphrase. Takes about a second, as it is meant to.
    ///
    /// # Errors
    /// When the passphrase is another, or the key in it cannot sign here.
    pub fn decrypt(&self, passphrase: &str) -> Result<PrivateKey, KeyError> {
        let info = EncryptedPrivateKeyInfoRef::from_der(self.document.as_bytes())
            .map_err(|_| KeyError::UnknownEncryption)?;
        let clear = info.decrypt(passphrase).map_err(|error| match error {
            pkcs8::Error::EncryptedPrivateKey(
                pkcs5::Error::UnsupportedAlgorithm { .. } | pkcs5::Error::NoPbes1CryptSupport,
            ) => KeyError::UnknownEncryption,
            // What is deciphered by another key is no padding, or no key.
            _ => KeyError::WrongPassphrase,
        })?;
        PrivateKey::from_pkcs8(clear.as_bytes()).map_err(|error| match error {
            KeyError::Malformed(_) => KeyError::WrongPassphrase,
            error => error,
        })
    }
}

impl PrivateKey {
    fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        let malformed = |_| KeyError::Malformed("PRIVATE KEY".to_owned());
        let info = PrivateKeyInfoRef::from_der(document).map_err(malformed)?;
        match info.algorithm.oid {
            RSA => Self::rsa(info.private_key.as_bytes()),
            EC => {
                let key = EcPrivateKey::from_der(info.private_key.as_bytes()).map_err(malformed)?;
                let curve = info.algorithm.parameters_oid().ok();
                Self::ecdsa(&key, curve)
            }
            ED25519 => {
                let seed = <&OctetStringRef>::from_der(info.private_key.as_bytes()).map_err(malformed)?;
                let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_bytes()).map_err(rejected)?;
                Ok(Self { algorithm: Algorithm::Ed25519, pair: Pair::Ed25519(pair) })
            }
            _ => Err(KeyError::UnsupportedAlgorithm),
        }
    }

    fn rsa(document: &[u8]) -> Result<Self, KeyError> {
        let pair = RsaKeyPair::from_der(document).map_err(|error| match error.to_string().as_str() {
            "TooSmall" | "TooLarge" => KeyError::RsaSize,
            "InvalidEncoding" => KeyError::Malformed("RSA PRIVATE KEY".to_owned()),
            _ => rejected(error),
        })?;
        Ok(Self { algorithm: Algorithm::RsaSha256, pair: Pair::Rsa(pair) })
    }

    fn ecdsa(key: &EcPrivateKey<'_>, curve: Option<ObjectIdentifier>) -> Result<Self, KeyError> {
        let (algorithm, signing): (_, &'static EcdsaSigningAlgorithm) = match curve {
            Some(P256) => (Algorithm::EcdsaP256, &ECDSA_P256_SHA256_ASN1_SIGNING),
            Some(P384) => (Algorithm::EcdsaP384, &ECDSA_P384_SHA384_ASN1_SIGNING),
            _ => return Err(KeyError::UnsupportedAlgorithm),
        };
        let public = key.public_key.ok_or(KeyError::NoPublicHalf)?;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            signing,
            key.private_key,
            public,
            &SystemRandom::new(),
        );
        Ok(Self { algorithm, pair: Pair::Ecdsa(pair.map_err(rejected)?) })
    }

    /// What it signs by.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half, as it stands in the `subjectPublicKey` of a certificate.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// Signs `message`: RSASSA-PKCS1-v1_5 with SHA-256, ECDSA in ASN.1, or Ed25519.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| KeyError::NotMade)?;
                Ok(signature)
            }
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).map_err(|_| KeyError::NotMade)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

fn rejected(error: ring::error::KeyRejected) -> KeyError {
    KeyError::Rejected(error.to_string())
}

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    /// For RSA, whose keys are made by others, and when the machine gives no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let ecdsa = |signing| {
            let document = EcdsaKeyPair::generate_pkcs8(signing, &random).map_err(|_| KeyError::NotMade)?;
            SecretDocument::try_from(document.as_ref()).map_err(|_| KeyError::NotMade)
        };
        let document = match algorithm {
            Algorithm::RsaSha256 => return Err(KeyError::NotMadeHere),
            Algorithm::EcdsaP256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            Algorithm::EcdsaP384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING)?,
            Algorithm::Ed25519 => {
                let mut seed = Zeroizing::new([0; ED25519_SEED_BYTES]);
                random.fill(seed.as_mut_slice()).map_err(|_| KeyError::NotMade)?;
                // Without the public half: OpenSSL 3.0 refuses version 2 of the form, which has it.
                let encode = || {
                    let inner = Zeroizing::new(OctetStringRef::new(seed.as_slice())?.to_der()?);
                    let algorithm = AlgorithmIdentifierRef { oid: ED25519, parameters: None };
                    let info = PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(&inner)?);
                    SecretDocument::encode_msg(&info)
                };
                encode().map_err(|_| KeyError::NotMade)?
            }
        };
        Ok(Self { document })
    }

    /// The key itself, to sign with.
    ///
    /// # Errors
    /// Never of a key that was made here.
    pub fn key(&self) -> Result<PrivateKey, KeyError> {
        PrivateKey::from_pkcs8(self.document.as_bytes())
    }

    /// A certificate request for it (PKCS #10, in PEM), which proves that whoever asks has the key. It names nobody: whom the
    /// certificate is for, its authority says.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub fn certificate_request(&self) -> Result<String, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.key()?).and_then(|request| request.pem());
        request.map_err(|_| KeyError::NotMade)
    }

    /// The file's text, unprotected.
    ///
    /// # Errors
    /// Never of a key that was made here.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.document.to_pem("PRIVATE KEY", LineEnding::LF).map_err(|_| KeyError::NotMade)
    }

    /// The file's text, behind a passphrase: PBKDF2 with HMAC-SHA-256 and AES-256-CBC, which OpenSSL reads as well.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub fn to_encrypted_pem(&self, passphrase: &str) -> Result<Zeroizing<String>, KeyError> {
        let random = SystemRandom::new();
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        random.fill(&mut salt).and_then(|()| random.fill(&mut iv)).map_err(|_| KeyError::NotMade)?;
        let encrypt = || {
            let info = PrivateKeyInfoRef::from_der(self.document.as_bytes())?;
            let parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(ITERATIONS, &salt, iv)?;
            let document = info.encrypt_with_params(parameters, passphrase)?;
            Ok(document.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)?)
        };
        encrypt().map_err(|_: pkcs8::Error| KeyError::NotMade)
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.public_key()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.algorithm {
            Algorithm::RsaSha256 => &rcgen::PKCS_RSA_SHA256,
            Algorithm::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Algorithm::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PrivateKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl fmt::Debug for EncryptedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EncryptedKey").finish_non_exhaustive()
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NewKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use pkcs8::der::EncodePem as _;
    use pkcs8::pkcs5::pbes2::{Pbkdf2Params, ScryptParams};

    use super::*;

    fn file(kdf: Kdf) -> Result<KeyFile, KeyError> {
        let encryption = pbes2::EncryptionScheme::Aes256Cbc { iv: [1; 16] };
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: EncryptionScheme::Pbes2(pbes2::Parameters { kdf, encryption }),
            encrypted_data: OctetStringRef::new(&[2; 48]).unwrap(),
        };
        KeyFile::parse(&info.to_pem(LineEnding::LF).unwrap())
    }

    #[test]
    fn a_key_file_cannot_ask_for_hours_of_computing_or_gigabytes() {
        let pbkdf2 = |iterations| file(Pbkdf2Params::hmac_sha256(iterations, b"salt").unwrap().into());
        assert!(matches!(pbkdf2(MAX_ITERATIONS), Ok(KeyFile::Encrypted(_))));
        assert_eq!(pbkdf2(MAX_ITERATIONS + 1).unwrap_err(), KeyError::TooCostly);
        let scrypt = |cost_parameter, block_size, parallelization| {
            let salt = b"salt".as_slice().try_into().unwrap();
            file(ScryptParams { salt, cost_parameter, block_size, parallelization, key_length: None }.into())
        };
        assert!(matches!(scrypt(1 << 18, 8, 1), Ok(KeyFile::Encrypted(_))));
        for (cost, block, parallel) in [(1 << 19, 8, 1), (1 << 18, 16, 1), (1 << 18, 8, 2), (1 << 62, 8, 1)] {
            assert_eq!(scrypt(cost, block, parallel).unwrap_err(), KeyError::TooCostly, "{cost}");
        }
    }
}

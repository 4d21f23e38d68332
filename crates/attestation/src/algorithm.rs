//! The algorithms that a block can name, and which one a key has. A closed list: none of them is weak, and a key has one
//! only, so that no choice of the block's can be another than its key's.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::SignatureVerificationAlgorithm;

/// How a statement is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017), keys of 2,048 bits and more.
    RsaSha256,
    /// ECDSA on P-256 with SHA-256 (FIPS 186-5), the signature in ASN.1 DER.
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384, the signature in ASN.1 DER.
    EcdsaP384,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

/// A name that is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `SHA256withRSA`, `ECDSA-P256`, `ECDSA-P384` or `Ed25519`")]
pub struct UnknownAlgorithm;

impl Algorithm {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::RsaSha256, Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519];

    /// As the block has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RsaSha256 => "SHA256withRSA",
            Self::EcdsaP256 => "ECDSA-P256",
            Self::EcdsaP384 => "ECDSA-P384",
            Self::Ed25519 => "Ed25519",
        }
    }

    pub(crate) fn verification(self) -> &'static dyn SignatureVerificationAlgorithm {
        match self {
            Self::RsaSha256 => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
            Self::EcdsaP256 => webpki::ring::ECDSA_P256_SHA256,
            Self::EcdsaP384 => webpki::ring::ECDSA_P384_SHA384,
            Self::Ed25519 => webpki::ring::ED25519,
        }
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(UnknownAlgorithm)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The name of a signature's object identifier, where it is one that is no longer trusted.
pub(crate) fn weak_signature(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "1.2.840.113549.1.1.2" => "MD2 with RSA",
        "1.2.840.113549.1.1.3" => "MD4 with RSA",
        "1.2.840.113549.1.1.4" => "MD5 with RSA",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => "SHA-1 with RSA",
        "1.2.840.10040.4.3" => "SHA-1 with DSA",
        "1.2.840.10045.4.1" => "SHA-1 with ECDSA",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_no_other_is() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
        for other in ["", "ecdsa-p256", "SHA1withRSA", "MD5withRSA", "none", "HS256", "ECDSA-P256 "] {
            assert_eq!(other.parse::<Algorithm>(), Err(UnknownAlgorithm), "{other}");
        }
    }
}

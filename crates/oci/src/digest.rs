//! How everything in a registry is known: the SHA-256 of its bytes, written `sha256:<hex>`. Other algorithms are refused.

use std::fmt;
use std::str::FromStr;

use mentat_manifest::escape_untrusted;
use sha2::{Digest as _, Sha256};

/// SHA-256 of something in a registry (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no digest: `sha256:` and 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of what was read by now.
    pub(crate) fn finish(read: Sha256) -> Self {
        Self(read.finalize().into())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    /// # Errors
    /// Echoes the text, bounded and escaped.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError(escape_untrusted(text, 80));
        let digits = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_writes_and_other_texts_are_none() {
        let digest = Digest::of(b"abc");
        let text = digest.to_string();
        assert_eq!(text, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(text.parse(), Ok(digest));
        for bad in [text.to_uppercase(), text.replace("256", "512"), format!("{text}0"), "sha256:".to_owned()]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}

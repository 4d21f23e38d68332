//! What is signed: the manifest without its `attestation`, with the module's digest in it, as canonical JSON. Knows nothing
//! of keys and signatures.
//!
//! Invariant: two manifests that a reader could tell apart have two statements, as have two modules.

use mentat_manifest::{Manifest, ManifestError, ModuleDigest};
use serde_json::{Map, Value};

use crate::ambiguity::{self, Ambiguity};
use crate::canonical::{InexactNumber, MAX_EXACT, canonical};

/// The block that is not signed, since it holds the signature.
pub(crate) const ATTESTATION: &str = "attestation";
/// The key under which the module's digest stands.
pub(crate) const MODULE_DIGEST: &str = "module_digest";

/// The bytes that a signature is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    canonical: Vec<u8>,
}

/// Why there is nothing to sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The text is no YAML that a manifest could be.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest has the key that the statement adds.
    #[error("the manifest has a key `{MODULE_DIGEST}`, which a signature adds by itself; leave it out")]
    DigestGiven,
    /// A number that stands for several.
    #[error(transparent)]
    Inexact(#[from] InexactNumber),
    /// A text that two readers could take for two documents.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguity),
}

impl Statement {
    /// The statement about a manifest, as its text has it, and a module.
    ///
    /// # Errors
    /// A text that is no mapping of keys within a manifest's bounds, one that has `module_digest` already, one that two
    /// readers of YAML could take for two documents, and a number beyond 2^53. Whether the text is a manifest is not looked at.
    pub fn new(manifest: &str, module: &ModuleDigest) -> Result<Self, StatementError> {
        let mut document: Map<String, Value> = Manifest::document(manifest)?;
        document.remove(ATTESTATION);
        if document.contains_key(MODULE_DIGEST) {
            return Err(StatementError::DigestGiven);
        }
        document.values().try_for_each(ensure_exact)?;
        document.insert(MODULE_DIGEST.into(), Value::String(module.to_string()));
        let canonical = canonical(&Value::Object(document))?;
        ambiguity::refuse(manifest)?;
        Ok(Self { canonical })
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }
}

/// Refuses what canonical JSON alone would take: a double, which the reader of YAML makes of a longer integer.
fn ensure_exact(value: &Value) -> Result<(), InexactNumber> {
    match value {
        Value::Number(number) if number.as_f64().is_none_or(|double| double.abs() > MAX_EXACT as f64) => {
            Err(InexactNumber(number.to_string()))
        }
        Value::Array(items) => items.iter().try_for_each(ensure_exact),
        Value::Object(map) => map.values().try_for_each(ensure_exact),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "id: a.b\nversion: 1.0.0\nx-team: one\nmetadata: { q: 1, list: [a, b] }\n";

    fn statement(manifest: &str) -> String {
        let statement = Statement::new(manifest, &ModuleDigest::of(b"abc")).unwrap();
        String::from_utf8(statement.canonical().to_vec()).unwrap()
    }

    #[test]
    fn it_is_the_manifest_without_its_block_and_with_the_digest() {
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let expected = format!(
            r#"{{"id":"a.b","metadata":{{"list":["a","b"],"q":1}},"module_digest":"{digest}","version":"1.0.0","x-team":"one"}}"#
        );
        assert_eq!(statement(MANIFEST), expected);
        assert_eq!(statement(&format!("attestation: {{ any: thing }}\n{MANIFEST}")), expected);
    }

    #[test]
    fn what_a_reader_cannot_tell_apart_is_one_statement() {
        let rewritten = "# a comment\nmetadata:\n  list:\n    - a\n    - 'b'\n  q: 1.0\n\"x-team\": one\nversion: \
                         \"1.0.0\"\nid: a.b\n";
        assert_eq!(statement(MANIFEST), statement(rewritten));
    }

    #[test]
    fn what_a_reader_can_tell_apart_is_not() {
        for other in [
            MANIFEST.replace("a.b", "a.c"),
            MANIFEST.replace("[a, b]", "[b, a]"),
            MANIFEST.replace("q: 1,", "q: \"1\","),
            MANIFEST.replace("q: 1,", "q: 1, m: ~,"),
            MANIFEST.replace("q: 1,", "q: true,"),
            format!("{MANIFEST}description: \"\"\n"),
        ] {
            assert_ne!(statement(MANIFEST), statement(&other), "{other}");
        }
        let composed = format!("{MANIFEST}description: \"\\u00e9\"\n");
        let decomposed = format!("{MANIFEST}description: \"e\\u0301\"\n");
        assert_ne!(statement(&composed), statement(&decomposed));
        let module = Statement::new(MANIFEST, &ModuleDigest::of(b"abd")).unwrap();
        assert_ne!(module.canonical(), statement(MANIFEST).as_bytes());
    }

    #[test]
    fn numbers_that_would_be_one_are_refused() {
        for number in [
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "18446744073709551617",
            "-9223372036854775809",
            "123456789012345678901234567890",
            "1e300",
        ] {
            let manifest = format!("{MANIFEST}x-n: [{{ deep: {number} }}]\n");
            let error = Statement::new(&manifest, &ModuleDigest::of(b"abc")).unwrap_err();
            assert!(matches!(error, StatementError::Inexact(_)), "{number}: {error}");
            assert!(error.to_string().contains("write it in quotes"), "{error}");
        }
    }

    #[test]
    fn a_number_that_is_rounded_to_another_is_refused_on_either_side() {
        for (number, says) in [("9007199254740993.0", "more exact"), ("0.30000000000000004441", "more exact")]
        {
            let manifest = format!("{MANIFEST}x-n: {number}\n");
            let error = Statement::new(&manifest, &ModuleDigest::of(b"abc")).unwrap_err();
            assert!(error.to_string().contains(says), "{number}: {error}");
        }
        let text = |number: &str| statement(&format!("{MANIFEST}x-n: {number}\n"));
        assert_eq!(text("1"), text("1.0"));
        assert_ne!(text("0.3"), text("0.30000000000000004"));
        assert_ne!(text("9007199254740992"), text("9007199254740991"));
    }

    #[test]
    fn tricks_with_keys_and_characters_are_refused() {
        let digest = ModuleDigest::of(b"abc");
        let refused = |text: &str| Statement::new(text, &digest).unwrap_err().to_string();
        assert!(refused(&format!("{MANIFEST}module_digest: sha256:00\n")).contains("leave it out"));
        assert!(refused("id: a.b\n\"\\u0069d\": c.d\n").contains("given twice"));
        assert!(refused("x-a:\n  1: a\n  \"1\": b\n").contains("given twice"));
        assert!(refused("x-a: \"\\uD800\"\n").contains("surrogate"));
        assert!(refused("x-a: .nan\n").contains("non-finite"));
        assert!(refused("- a\n").contains("mapping"));
    }
}

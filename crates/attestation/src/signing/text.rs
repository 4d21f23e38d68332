//! An attestation as text: the block of YAML that stands in a manifest or by itself, and the same as JSON in one line. Pure.
//!
//! Invariant: whatever a certificate says, it stays within its quotes.

use mentat_manifest::{Attestation, Manifest, ManifestError, escape_untrusted};
use serde_json::Value;

use crate::statement::ATTESTATION;

/// Why a text is no attestation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DetachedError {
    /// The text is no YAML that could be one.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is something else.
    #[error("it is no attestation as `mentat sign --detached` prints it: {0}")]
    Other(String),
}

/// The attestation as a block of its own, as it would stand in a manifest.
#[must_use]
pub fn detached(attestation: &Attestation) -> String {
    block(attestation, "", "\n")
}

/// Reads an attestation that stands by itself, as [`detached`] writes it or without its key, in YAML or JSON.
///
/// # Errors
/// When it is neither.
pub fn read_detached(text: &str) -> Result<Attestation, DetachedError> {
    let mut document = Manifest::document(text)?;
    let block = match document.remove(ATTESTATION) {
        Some(block) if document.is_empty() => block,
        Some(_) => return Err(DetachedError::Other("other keys stand beside `attestation`".into())),
        None => Value::Object(document),
    };
    serde_json::from_value(block)
        .map_err(|error| DetachedError::Other(escape_untrusted(&error.to_string(), 200)))
}

/// The lines of a block, each after `indent` and before `line_break`.
pub(super) fn block(attestation: &Attestation, indent: &str, line_break: &str) -> String {
    let mut lines = vec![
        format!("{ATTESTATION}:"),
        format!("  version: {}", version(attestation)),
        format!("  timestamp: {}", quoted(&attestation.timestamp)),
        "  signer:".to_owned(),
        format!("    subject: {}", quoted(&attestation.signer.subject)),
        format!("    issuer: {}", quoted(&attestation.signer.issuer)),
        format!("  algorithm: {}", quoted(&attestation.algorithm)),
        format!("  signature: {}", quoted(&attestation.signature)),
        "  certificate_chain:".to_owned(),
    ];
    for certificate in &attestation.certificate_chain {
        lines.push("    - |".to_owned());
        lines.extend(certificate.lines().map(|line| format!("      {line}")));
    }
    lines.into_iter().map(|line| format!("{indent}{line}{line_break}")).collect()
}

/// In one line, as JSON, which YAML reads in braces as well.
pub(super) fn flow(attestation: &Attestation) -> String {
    let chain: Vec<_> = attestation.certificate_chain.iter().map(|pem| quoted(pem)).collect();
    format!(
        "{{\"version\": {}, \"timestamp\": {}, \"signer\": {{\"subject\": {}, \"issuer\": {}}}, \"algorithm\": {}, \
         \"signature\": {}, \"certificate_chain\": [{}]}}",
        version(attestation),
        quoted(&attestation.timestamp),
        quoted(&attestation.signer.subject),
        quoted(&attestation.signer.issuer),
        quoted(&attestation.algorithm),
        quoted(&attestation.signature),
        chain.join(", ")
    )
}

fn version(attestation: &Attestation) -> String {
    attestation.version.as_str().map_or_else(|| attestation.version.to_string(), quoted)
}

/// In quotes, as JSON and YAML both read it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            // What YAML does not print, and what ends its lines.
            '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
pub(super) mod tests {
    use mentat_manifest::Signer;

    use super::*;

    pub(in crate::signing) const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    /// One whose names have to be written with care.
    pub(in crate::signing) fn attestation(signature: &str) -> Attestation {
        Attestation {
            version: Value::from("1.0"),
            timestamp: "2026-11-27T03:00:00Z".into(),
            signer: Signer { subject: "CN=Zo\u{eb} \"x\", O=A\\B".into(), issuer: "CN=\u{85}CA".into() },
            algorithm: "Ed25519".into(),
            signature: signature.into(),
            certificate_chain: vec![PEM.into(), PEM.into()],
        }
    }

    #[test]
    fn a_detached_attestation_is_read_with_its_key_and_without_in_yaml_and_json() {
        let own = attestation("AAAA");
        assert_eq!(read_detached(&detached(&own)).unwrap(), own);
        let json = serde_json::to_string(&own).unwrap();
        assert_eq!(read_detached(&json).unwrap(), own);
        assert_eq!(read_detached(&format!("{{\"attestation\": {json}}}")).unwrap(), own);
        for other in ["", "- a\n", "id: a.b\n", "attestation: 1\n", &format!("id: a.b\n{}", detached(&own))] {
            read_detached(other).unwrap_err();
        }
    }
}

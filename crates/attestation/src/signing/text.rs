//! An attestation as text: the block of YAML that stands in a manifest or by itself, and the same as JSON in one line. Pure.
//!
//! Invariant: whatever a certificate says, it stays within its quotes.

use mentat_manifest::Attestation;

use crate::statement::ATTESTATION;

/// The attestation as a block of its own, as it would stand in a manifest.
#[must_use]
pub fn detached(attestation: &Attestation) -> String {
    block(attestation, "", "\n")
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
    use serde_json::Value;

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
        assert_eq!(Attestation::parse(&detached(&own)).unwrap(), own);
        let json = serde_json::to_string(&own).unwrap();
        assert_eq!(Attestation::parse(&json).unwrap(), own);
        assert_eq!(Attestation::parse(&format!("{{\"attestation\": {json}}}")).unwrap(), own);
        for other in ["", "- a\n", "id: a.b\n", "attestation: 1\n", &format!("id: a.b\n{}", detached(&own))] {
            Attestation::parse(other).unwrap_err();
        }
    }
}

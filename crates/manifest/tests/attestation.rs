//! Attestations that come beside their manifests.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests fail by panicking")]

use mentat_manifest::{Attestation, Manifest};
use proptest::prelude::*;

const BLOCK: &str = "version: '1.0'\ntimestamp: 2026-06-01T12:00:00Z\nsigner: { subject: CN=Dev, issuer: CN=Root }\n\
    algorithm: Ed25519\nsignature: AAAA\ncertificate_chain: [ \"-----BEGIN CERTIFICATE-----\\n\" ]\n";

#[test]
fn yaml_and_json_are_the_same_block_as_in_a_manifest() {
    let block = Attestation::parse(BLOCK).unwrap();
    let json = serde_json::to_string(&block).unwrap();
    assert_eq!(Attestation::parse(&json).unwrap(), block);
    let manifest = format!("id: a.b\nversion: 1.0.0\nruntime: wasm\nattestation: {json}\n");
    assert_eq!(Manifest::parse(&manifest).unwrap().attestation, Some(block));
}

#[test]
fn what_is_no_attestation_is_told_with_its_line_and_key() {
    for (text, says) in [
        ("", "an attestation is a mapping of keys"),
        ("- a\n", "an attestation is a mapping of keys"),
        ("version: '1.0'\n", "missing field `timestamp`"),
        (&BLOCK.replace("signature:", "signture:"), "line 5:1: `signture`"),
        (&BLOCK.replace("AAAA", "[1]"), "`signature`"),
        (&format!("{BLOCK}signature: BBBB\n"), "given twice"),
        (&"a: [".repeat(100), "line 1"),
        (&"#".repeat(2 << 20), "the limit is 1048576"),
    ] {
        let problem = Attestation::parse(text).unwrap_err().to_string();
        assert!(problem.contains(says), "{says} is not in {problem}");
    }
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,200}") {
        let _ = Attestation::parse(&text);
    }
}

//! What was changed after signing is found: the module, the manifest, the block, and one taken from another agent.

use mentat_attestation::{Options, Rejection, Signer, StatementError};
use mentat_manifest::{Attestation, ModuleDigest};

use crate::authority::{MANIFEST, MODULE, Order, Usual, now};

fn verify(usual: &Usual, manifest: &str, attestation: &Attestation) -> Result<Signer, Rejection> {
    let verifier = usual.verifier(&[], Options::default());
    verifier.verify(manifest, attestation, &ModuleDigest::of(MODULE), now())
}

#[test]
fn another_module_is_refused() {
    let usual = Usual::new();
    let verifier = usual.verifier(&[], Options::default());
    let swapped = ModuleDigest::of(b"\0asm\x01\0\0\0\0");
    let refused = verifier.verify(MANIFEST, &usual.attest(), &swapped, now());
    assert_eq!(refused, Err(Rejection::SignatureMismatch));
}

#[test]
fn every_change_of_the_manifest_is_refused() {
    let usual = Usual::new();
    let attestation = usual.attest();
    for changed in [
        MANIFEST.replace("team.agent", "team.other"),
        MANIFEST.replace("1.2.0", "1.1.9"),
        MANIFEST.replace("fuel: 1000000", "fuel: 1000001"),
        MANIFEST.replace("[\"env:A\", \"env:B\"]", "[\"env:B\", \"env:A\"]"),
        MANIFEST.replace("[\"env:A\", \"env:B\"]", "[\"env:A\", \"env:B\", \"env:C\"]"),
        MANIFEST.replace("[\"env:A\", \"env:B\"]", "[\"env:A\"]"),
        // The same letters, of other characters.
        MANIFEST.replace("Grüße", "Gru\u{308}ße"),
        MANIFEST.replace("ratio: 0.5", "ratio: \"0.5\""),
        MANIFEST.replace("ratio: 0.5", "ratio: 0.5, more: ~"),
        MANIFEST.replace("runtime: wasm\n", ""),
        format!("{MANIFEST}x-added: true\n"),
        format!("{MANIFEST}description: ''\n"),
    ] {
        assert_ne!(changed, MANIFEST);
        assert_eq!(verify(&usual, &changed, &attestation), Err(Rejection::SignatureMismatch), "{changed}");
    }
}

#[test]
fn what_only_reads_otherwise_is_accepted() {
    let usual = Usual::new();
    let attestation = usual.attest();
    for same in [
        format!("# of the team\n{MANIFEST}"),
        format!("{MANIFEST}attestation: {{ of: somebody }}\n"),
        MANIFEST.replace("ratio: 0.5", "ratio: 5.0e-1"),
        MANIFEST.replace("id: team.agent", "\"id\": \"te\\u0061m.agent\""),
        MANIFEST.replace("fuel: 1000000", "fuel: 1000000.0"),
        MANIFEST.replace("version: 1.2.0\nruntime: wasm\n", "runtime: wasm\nversion: 1.2.0\n"),
    ] {
        assert_ne!(same, MANIFEST);
        assert!(verify(&usual, &same, &attestation).is_ok(), "{same}");
    }
}

#[test]
fn manifests_that_could_be_read_in_two_ways_are_refused() {
    let usual = Usual::new();
    let attestation = usual.attest();
    for (twofold, says) in [
        (format!("{MANIFEST}id: evil.agent\n"), "given twice"),
        (format!("{MANIFEST}\"\\u0069d\": evil.agent\n"), "given twice"),
        (MANIFEST.replace("ratio: 0.5", "1: a, \"1\": b"), "given twice"),
        (MANIFEST.replace("ratio: 0.5", "ratio: 9007199254740993"), "beyond 2^53"),
        (MANIFEST.replace("ratio: 0.5", "ratio: 36893488147419103233"), "beyond 2^53"),
        (MANIFEST.replace("Grüße", "\"\\udead\""), "surrogate"),
        (MANIFEST.replace("ratio: 0.5", "ratio: .inf"), "non-finite"),
        (format!("{MANIFEST}---\nid: evil.agent\n"), "one YAML document"),
        // What is rounded to the same double would be signed as the same number.
        (MANIFEST.replace("ratio: 0.5", "ratio: 9007199254740993.0"), "more exact"),
        (MANIFEST.replace("ratio: 0.5", "ratio: 0.50000000000000000001"), "more exact"),
        (MANIFEST.replace("ratio: 0.5", "ratio: 1.0e+30"), "beyond 2^53"),
        // What tags, anchors, merge keys and directives make of a value, not every reader agrees on.
        (MANIFEST.replace("ratio: 0.5", "ratio: !!str 0.5"), "has a tag"),
        (MANIFEST.replace("note: Grüße", "note: !greeting Grüße"), "has a tag"),
        (format!("%YAML 1.1\n---\n{MANIFEST}"), "the directive `%YAML 1.1`"),
        (format!("%TAG ! tag:example.com,2026:\n---\n{MANIFEST}"), "the directive `%TAG"),
        (MANIFEST.replace("note: Grüße", "note: &note Grüße"), "anchors"),
        (format!("{MANIFEST}x-a: {{ <<: {{ b: c }} }}\n"), "merge keys"),
        // In YAML 1.1 these are true, 3600, 8, a date, and a line of its own.
        (format!("{MANIFEST}longRunning: yes\n"), "a truth value for others"),
        (format!("{MANIFEST}x-time: 1:00:00\n"), "a number for others"),
        (format!("{MANIFEST}x-mode: 010\n"), "a number for others"),
        (format!("{MANIFEST}x-day: 2026-06-01\n"), "a date for others"),
        (format!("# harmless\u{85}runtime: container\n{MANIFEST}"), "ends a line for some readers"),
        (format!("{MANIFEST}module_digest: \"{}\"\n", ModuleDigest::of(b"other")), "leave it out"),
    ] {
        let refused = verify(&usual, &twofold, &attestation).unwrap_err();
        assert!(matches!(refused, Rejection::Statement(_)), "{twofold}: {refused:?}");
        assert!(refused.to_string().contains(says), "{twofold}: {refused}");
        assert_eq!(refused.code(), "manifest_unsignable");
    }
    let given = Rejection::Statement(StatementError::DigestGiven);
    assert!(given.to_string().contains("`module_digest`"));
}

#[test]
fn a_block_of_another_agent_is_refused() {
    let usual = Usual::new();
    let others = MANIFEST.replace("team.agent", "team.other");
    assert_eq!(verify(&usual, &others, &usual.attest()), Err(Rejection::SignatureMismatch));
}

#[test]
fn the_block_can_say_nothing_that_the_certificate_does_not() {
    let usual = Usual::new();
    let honest = usual.attest();
    let refused = |change: &dyn Fn(&mut Attestation)| {
        let mut attestation = honest.clone();
        change(&mut attestation);
        let rejection = usual.verify(&attestation).unwrap_err();
        assert!(!rejection.to_string().contains(['\u{202e}', '\n']), "{rejection}");
        rejection.code()
    };
    assert_eq!(refused(&|block| block.signer.subject = "CN=Boss,O=Example".into()), "signer_mismatch");
    assert_eq!(refused(&|block| block.signer.subject = "CN=Dev\u{202e}\n".into()), "signer_mismatch");
    assert_eq!(refused(&|block| block.signer.issuer = "CN=Root,O=Example".into()), "signer_mismatch");
    assert_eq!(
        refused(&|block| block.signer.subject = "CN=Dev,O=Example,OU=Security".into()),
        "signer_mismatch"
    );
    assert_eq!(refused(&|block| block.signer.subject = String::new()), "signer_mismatch");
    assert_eq!(refused(&|block| block.version = "2.0".into()), "version_unknown");
    assert_eq!(refused(&|block| block.version = "1.1".into()), "version_unknown");
    assert_eq!(refused(&|block| block.version = serde_json::json!({ "a": [1] })), "version_unknown");
    assert_eq!(refused(&|block| block.timestamp = "yesterday".into()), "timestamp_malformed");
    assert_eq!(refused(&|block| block.timestamp = "2026-06-01".into()), "timestamp_malformed");
    assert_eq!(refused(&|block| block.timestamp = "9".repeat(1 << 20)), "timestamp_malformed");
    assert_eq!(refused(&|block| block.timestamp = "2039-01-01T00:00:00Z".into()), "signed_in_future");
    assert_eq!(refused(&|block| block.timestamp = "2019-12-31T00:00:00Z".into()), "not_valid_when_signed");
    assert_eq!(refused(&|block| block.certificate_chain.clear()), "chain_empty");

    for said in ["O = Example, CN = Dev", "/O=Example/CN=Dev", "CN=Dev", "Dev", "dev@example.com"] {
        let mut attestation = honest.clone();
        attestation.signer.subject = said.into();
        assert!(usual.verify(&attestation).is_ok(), "{said}");
    }
    for version in
        [serde_json::json!(1), serde_json::json!(1.0), serde_json::json!("1"), serde_json::json!("v1.0.0")]
    {
        let mut attestation = honest.clone();
        attestation.version = version;
        assert!(usual.verify(&attestation).is_ok());
    }
}

#[test]
fn a_certificate_cannot_name_itself_so_that_it_reads_as_another() {
    // One value that looks like two attributes, and one that turns the text around.
    let usual = Usual::of(&Order { subject: "/CN=Boss\\,O=Example", ..Order::default() });
    let mut attestation = usual.attest();
    assert_eq!(usual.verify(&attestation).unwrap().organisation, None);
    attestation.signer.subject = "CN=Boss,O=Example".into();
    assert_eq!(usual.verify(&attestation).unwrap_err().code(), "signer_mismatch");

    let usual = Usual::of(&Order { subject: "/O=Example/CN=Dev\u{202e}ssoB", ..Order::default() });
    assert_eq!(usual.verify(&usual.attest()).unwrap_err().code(), "certificate_malformed");
}

#[test]
fn a_certificate_with_several_emails_or_organisations_has_none() {
    let extensions =
        crate::authority::SIGNER.replace("email:dev@example.com", "email:a@example.com,email:b@example.com");
    let usual =
        Usual::of(&Order { subject: "/O=One/O=Two/CN=Dev", extensions: &extensions, ..Order::default() });
    let signer = usual.verify(&usual.attest()).unwrap();
    assert_eq!((signer.email.as_deref(), signer.organisation.as_deref()), (None, None));
    assert_eq!(signer.name(), "Dev");
}

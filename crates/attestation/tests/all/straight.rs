//! What is signed as it should be is accepted, whoever made the signature and the certificates.

use mentat_attestation::{Algorithm, Options, Statement, Verifier};
use mentat_manifest::ModuleDigest;

use crate::authority::{ED25519, MANIFEST, MODULE, Order, P256, P384, RSA_2048, Usual, anchors, now};

#[test]
fn a_chain_and_a_signature_by_openssl_yield_the_signer() {
    let usual = Usual::new();
    let signer = usual.verify(&usual.attest()).unwrap();
    assert_eq!(signer.subject, "CN=Dev,O=Example");
    assert_eq!(signer.issuer, "CN=Intermediate,O=Example");
    assert_eq!(signer.root, "CN=Root,O=Example");
    assert_eq!(signer.email.as_deref(), Some("dev@example.com"));
    assert_eq!(signer.organisation.as_deref(), Some("Example"));
    assert_eq!(signer.policies, ["1.3.6.1.4.1.55555.1", "1.3.6.1.4.1.55555.2"]);
    assert_eq!(signer.algorithm, Algorithm::EcdsaP256);
    assert_eq!(signer.name(), "dev@example.com");
    let print = usual.workshop.openssl(["x509", "-in", "signer.pem", "-noout", "-fingerprint", "-sha256"]);
    let print =
        String::from_utf8(print).unwrap().trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
    assert_eq!(signer.fingerprint, format!("sha256:{print}"));
}

#[test]
fn every_algorithm_is_verified() {
    for (key, algorithm) in
        [(P256, "ECDSA-P256"), (P384, "ECDSA-P384"), (ED25519, "Ed25519"), (RSA_2048, "SHA256withRSA")]
    {
        let usual = Usual::of(&Order { key, ..Order::default() });
        let attestation =
            usual.workshop.attest(&usual.signer, algorithm, &[&usual.signer, &usual.intermediate]);
        let signer = usual.verify(&attestation).unwrap();
        assert_eq!(signer.algorithm.name(), algorithm);
    }
}

#[test]
fn a_root_may_be_sent_along_and_may_sign_signers_itself() {
    let usual = Usual::new();
    let mut attestation = usual.attest();
    attestation.certificate_chain.push(usual.root.pem());
    usual.verify(&attestation).unwrap();

    let direct = usual.workshop.issue("direct", Some(&usual.root), &Order::default());
    let attestation = usual.workshop.attest(&direct, "ECDSA-P256", &[&direct]);
    usual.verify(&attestation).unwrap();
    // An intermediate is trusted by itself where the operator says so.
    let verifier = Verifier::new(anchors(&[&usual.intermediate]), Default::default(), Options::default());
    verifier.verify(MANIFEST, &usual.attest(), &ModuleDigest::of(MODULE), now()).unwrap();
}

#[test]
fn a_signer_is_called_by_what_an_authority_has_vouched_for() {
    let without = crate::authority::SIGNER.replace("subjectAltName=email:dev@example.com\n", "");
    for (subject, extensions, name) in [
        ("/O=Example/CN=Dev", crate::authority::SIGNER, "dev@example.com"),
        ("/O=Example/CN=Dev", &without, "Dev"),
        // An address in the common name is not one that a trust rule or a policy goes by, and does not read as one.
        ("/O=Example/CN=boss@example.com", &without, "CN=boss@example.com,O=Example"),
        ("/O=Example/CN=One/CN=Two", &without, "CN=Two,CN=One,O=Example"),
        ("/O=Example", &without, "O=Example"),
    ] {
        let usual = Usual::of(&Order { subject, extensions, ..Order::default() });
        let attestation = usual.attest();
        let signer = usual.verify(&attestation).unwrap();
        assert_eq!(signer.name(), name, "{subject}");
    }
}

#[test]
fn every_agent_of_the_workspace_can_be_signed() {
    let agents = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agents");
    let folders = std::fs::read_dir(agents).unwrap().map(|entry| entry.unwrap().path());
    let manifests: Vec<String> =
        folders.filter_map(|folder| std::fs::read_to_string(folder.join("manifest.yaml")).ok()).collect();
    assert!(manifests.len() >= 6, "agents are missing");
    for text in manifests {
        Statement::new(&text, &ModuleDigest::of(MODULE)).unwrap_or_else(|found| panic!("{found}: {text}"));
    }
}

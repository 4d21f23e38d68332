//! Attestations and Sigstore's forms as Python's `cryptography` makes them, by a script that knows the documents alone.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use mentat_attestation::sigstore::{Form, SigstoreError, verify_bundle, verify_simple_signing};
use mentat_attestation::{
    Algorithm, Anchors, KeyFault, MissingCrl, Options, PublicKey, Revocations, Statement, Verifier,
};
use mentat_manifest::{Manifest, ModuleDigest};
use serde_json::{Value, json};

use crate::authority::{MANIFEST, MODULE, python};

/// 2026-07-01, within the signer's year.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_782_864_000)
}

/// What the script makes of a wish.
fn made(mut wish: Value) -> Value {
    wish["module"] = base64::engine::general_purpose::STANDARD.encode(MODULE).into();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/python.py");
    let mut child =
        Command::new(python()).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(wish.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn certificates_signatures_and_lists_by_python_hold() {
    let module = ModuleDigest::of(MODULE);
    for algorithm in Algorithm::ALL {
        let document = Manifest::document(MANIFEST).unwrap();
        let made =
            made(json!({ "wanted": "attestation", "algorithm": algorithm.name(), "document": document }));
        let statement = Statement::new(MANIFEST, &module).unwrap();
        assert_eq!(String::from_utf8_lossy(statement.canonical()), made["statement"].as_str().unwrap());

        let attestation = serde_json::from_value(made["attestation"].clone()).unwrap();
        let verify = |lists: &[&Value], now| {
            let mut anchors = Anchors::default();
            anchors.add(made["root"].as_str().unwrap().as_bytes()).unwrap();
            let mut revocations = Revocations::default();
            for list in lists {
                revocations.add(list.as_str().unwrap().as_bytes()).unwrap();
            }
            let options = Options { missing_crl: MissingCrl::Refuse, ..Options::default() };
            Verifier::new(anchors, revocations, options).verify(MANIFEST, &attestation, &module, now)
        };
        let (of_root, of_intermediate) = (&made["lists"][0], &made["lists"][1]);
        let signer = verify(&[of_root, of_intermediate], now()).unwrap();
        assert_eq!(signer.algorithm, algorithm);
        assert_eq!(signer.subject, r"CN=Entwickler,O=Beispiel\, GmbH,C=DE");
        assert_eq!(signer.organisation.as_deref(), Some("Beispiel, GmbH"));
        assert_eq!(signer.email.as_deref(), Some("dev@beispiel.de"));
        assert_eq!(signer.policies, ["1.3.6.1.4.1.55555.3"]);

        let revoked = verify(&[of_root, &made["revoking"]], now()).unwrap_err();
        assert_eq!(revoked.code(), "certificate_revoked");
        let year = Duration::from_secs(365 * 24 * 3600);
        assert_eq!(
            verify(&[of_root, of_intermediate], now() + year).unwrap_err().code(),
            "certificate_expired"
        );
    }
}

#[test]
fn envelopes_and_bundles_over_the_module_hold() {
    for algorithm in Algorithm::ALL {
        let made = made(json!({ "wanted": "sigstore", "algorithm": algorithm.name() }));
        let key = PublicKey::read(made["key"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        for (name, form) in [
            ("statement", Form::Statement),
            ("bundle_statement", Form::Statement),
            ("simple_envelope", Form::SimpleSigning),
            ("bundle_bytes", Form::Bytes),
            ("blob", Form::Bytes),
        ] {
            let bytes = made[name].to_string();
            let endorsement = verify_bundle(bytes.as_bytes(), &key, MODULE).unwrap();
            assert_eq!(endorsement.form, form, "{name}");
            let predicate = (form == Form::Statement).then_some("https://slsa.dev/provenance/v1");
            assert_eq!(endorsement.predicate_type.as_deref(), predicate);
            assert_eq!(endorsement.key, key.fingerprint());
            // Over another module it is not.
            let other = verify_bundle(bytes.as_bytes(), &key, b"another module").unwrap_err();
            let expected = match form {
                Form::Bytes => SigstoreError::NotSigned,
                _ => SigstoreError::AnotherModule(ModuleDigest::of(b"another module")),
            };
            assert_eq!(other, expected, "{name}");
        }
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let simple = |payload: &str, signature: &str| {
            verify_simple_signing(text(payload).as_bytes(), &text(signature), &key, &ModuleDigest::of(MODULE))
        };
        assert_eq!(simple("simple_payload", "simple_signature").unwrap().form, Form::SimpleSigning);
        assert_eq!(simple("simple_payload", "simple_of_other_signature"), Err(SigstoreError::NotSigned));
        let other = simple("simple_of_other", "simple_of_other_signature");
        assert_eq!(other, Err(SigstoreError::AnotherModule(ModuleDigest::of(MODULE))));
    }
}

#[test]
fn bundles_that_were_tampered_with_are_refused() {
    let first = made(json!({ "wanted": "sigstore", "algorithm": "ECDSA-P256" }));
    let second = made(json!({ "wanted": "sigstore", "algorithm": "ECDSA-P256" }));
    let key = PublicKey::read(first["key"].as_str().unwrap().as_bytes()).unwrap();
    let verify = |bundle: &Value| verify_bundle(bundle.to_string().as_bytes(), &key, MODULE).unwrap_err();
    assert_eq!(verify(&second["statement"]), SigstoreError::NotSigned);
    assert_eq!(verify(&second["bundle_bytes"]), SigstoreError::NotSigned);
    let another = SigstoreError::AnotherModule(ModuleDigest::of(MODULE));
    assert_eq!(verify(&first["statement_of_other"]), another);
    assert_eq!(verify(&first["bundle_lies"]), another);
    assert_eq!(verify(&first["statement_as_text"]), SigstoreError::Payload("text/plain".into()));

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut envelope = first["statement"].clone();
        change(&mut envelope);
        verify(&envelope)
    };
    // The type is part of what is signed.
    let simple = "application/vnd.dev.cosign.simplesigning.v1+json";
    assert_eq!(changed(&|envelope| envelope["payloadType"] = simple.into()), SigstoreError::NotSigned);
    assert_eq!(
        changed(&|envelope| envelope["payload"] = first["statement_of_other"]["payload"].clone()),
        SigstoreError::NotSigned
    );
    assert_eq!(changed(&|envelope| envelope["signatures"] = json!([])), SigstoreError::NotSigned);
    let many = json!(vec![first["statement"]["signatures"][0].clone(); 17]);
    let malformed = |error| matches!(error, SigstoreError::Malformed(_));
    assert!(malformed(changed(&|envelope| envelope["signatures"] = many.clone())));
    assert!(malformed(changed(&|envelope| envelope["signatures"][0]["sig"] = "*".into())));
    assert!(malformed(changed(&|envelope| envelope["payload"] = "e30".into())));
    // The other alphabet of base64, which DSSE allows.
    let mut url_safe = first["statement"].clone();
    let other = |text: &Value| Value::from(text.as_str().unwrap().replace('+', "-").replace('/', "_"));
    url_safe["payload"] = other(&url_safe["payload"]);
    url_safe["signatures"][0]["sig"] = other(&url_safe["signatures"][0]["sig"]);
    verify_bundle(url_safe.to_string().as_bytes(), &key, MODULE).unwrap();
    // Several signatures, of which one is by the key.
    let mut both = first["statement"].clone();
    let foreign = second["statement"]["signatures"][0].clone();
    both["signatures"].as_array_mut().unwrap().insert(0, foreign);
    verify_bundle(both.to_string().as_bytes(), &key, MODULE).unwrap();

    for bad in ["", "{}", "[]", "null", r#"{"mediaType":"application/json"}"#, "{\"payloadType\":1}"] {
        assert!(malformed(verify_bundle(bad.as_bytes(), &key, MODULE).unwrap_err()), "{bad}");
    }
    // A key that stands twice, of which another reader could take the other.
    let twice = first["statement"].to_string().replacen('{', "{\"payloadType\":\"x\",", 1);
    assert!(malformed(verify_bundle(twice.as_bytes(), &key, MODULE).unwrap_err()));
    assert_eq!(verify_bundle(&vec![b' '; 2 << 20], &key, MODULE), Err(SigstoreError::TooLarge));

    for (bytes, fault) in [
        (b"".as_slice(), KeyFault::Malformed),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", KeyFault::Malformed),
        (&[0x30; 5000], KeyFault::Malformed),
    ] {
        assert_eq!(PublicKey::read(bytes), Err(fault));
    }
}

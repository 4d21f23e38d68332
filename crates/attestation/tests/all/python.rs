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

/// Whether two values are one, where numbers are doubles.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

#[test]
fn what_can_be_signed_says_the_same_to_a_reader_of_yaml_1_1() {
    let pieces = |all: &str| all.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (signs, wholes) =
        (["", "-", "+"], pieces("0 1 7 08 017 12 99 1_0 2026 0x1f 0o7 0b1 9007199254740993"));
    let rests =
        pieces("_ .0 .5 .50 . .1.2 e3 e+3 .0e3 .0e+3 .5e-7 :30 :61 :30:15 :30.5 -01 -01-31 -1-2T03:04:05Z ,");
    let mut scalars: Vec<String> = pieces(
        "yes Yes NO on Off y n true False TRUE null ~ Null .inf -.Inf .nan inf nan = << 1.0.0 1.2.3.4 a:b a#b - ? ! %x @y `z | \
         .5 -.5 +.5 ._5 0.1 0.10000000000000001 tRUE yEs 0.30000000000000004",
    );
    for (sign, whole) in signs.iter().flat_map(|sign| wholes.iter().map(move |whole| (sign, whole))) {
        scalars.push(format!("{sign}{whole}"));
        scalars.extend(rests.iter().map(|rest| format!("{sign}{whole}{rest}")));
    }
    let mut texts: Vec<String> = Vec::new();
    for scalar in &scalars {
        texts.extend([
            format!("x: {scalar}\n"),
            format!("x:\n- a\n- {scalar}\n"),
            format!("x: [a, {scalar}, b]\n"),
            format!("x: '{scalar}'\n"),
            format!("x: {{{scalar}: a}}\n"),
            format!("{scalar}: a\n"),
        ]);
    }
    for break_ in ["\n", "\r\n", "\r", "\u{85}", "\u{2028}", "\u{2029}", "\u{b}", "\u{c}"] {
        texts.extend([
            format!("x: a # comment{break_}y: b\n"),
            format!("x: \"a{break_}  b\"\n"),
            format!("x: a{break_}  b\n"),
            format!("x: |{break_}  a{break_}  b{break_}"),
        ]);
    }
    texts.extend(
        [
            "x: !!str 1\n",
            "x: !!int '1'\n",
            "x: !!binary aGk=\n",
            "%YAML 1.1\n---\nx: 1\n",
            "x: &a 1\ny: *a\n",
            "x: {<<: {a: b}}\n",
            "x: {a: b, a: c}\n",
            "? x\n: y\n",
            "x: {a: 1, \"b\":2}\n",
            "x: \"\\x41\\u00e9\\/\"\n",
            "x: 'it''s'\n",
            "x: >-\n  a\n  b\n\n  c\n",
            "x: |+\n  a\n\n",
            "x: a\n b\n",
            "x:\ny:\n- \n- a\n",
            "---\nx: a\n...\n",
            "x: [a, [b, {c: d}], ]\n",
            "\u{feff}x: a\n",
            "x: \"a\\\n  b\"\n",
        ]
        .map(str::to_owned),
    );
    // And what chance makes of YAML's marks.
    let marks: Vec<&str> = "x|y|x: |: |:|- |-|? |?|[|]|{|}|, |,|\n|\n  |\n- |\n    |'|\"|#| #| |1|0|.|e|+|_|yes|~|\t|\\|%|@|!|&|*|<<|=|\r\n|\u{85}|\u{e9}|>|\n\n|---\n|...\n|--- "
        .split('|')
        .chain(["|", "|\n", "|\n  "])
        .collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % u64::try_from(below).unwrap()).unwrap()
    };
    for _ in 0..60_000 {
        let length = 1 + next(9);
        let text: String = (0..length).map(|_| marks[next(marks.len())]).collect();
        texts.push(if next(2) == 0 { format!("x: {text}") } else { text });
    }
    let module = ModuleDigest::of(MODULE);
    texts.retain(|text| Statement::new(text, &module).is_ok());
    assert!(texts.len() > 3_000, "{} texts can be signed", texts.len());
    let read = made(json!({ "wanted": "read", "texts": texts }));
    let (mut both, mut differences) = (0, Vec::new());
    for (text, other) in texts.iter().zip(read.as_array().unwrap()) {
        let own = Value::Object(Manifest::document(text).unwrap());
        // What it refuses, it takes for nothing else.
        let Some(other) = other.get("read") else { continue };
        both += 1;
        if !same(&own, other) {
            differences.push(format!("{text:?} is {own} here and {other} in YAML 1.1"));
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences, such as {:#?}",
        differences.len(),
        &differences[..differences.len().min(20)]
    );
    assert!(both > 3_000, "{both} texts were read by both");
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

    let in_bundle = |change: &dyn Fn(&mut Value)| {
        let mut bundle = first["bundle_bytes"].clone();
        change(&mut bundle);
        verify_bundle(bundle.to_string().as_bytes(), &key, MODULE)
    };
    let media = "application/vnd.dev.sigstore.bundle";
    in_bundle(&|bundle| bundle["mediaType"] = format!("{media}+json;version=0.3").into()).unwrap();
    for other in ["", "-evil", ".v0.4+json", ".v0.3+json; x", ".v0.30+json", "+json;version=0.2"] {
        let refused =
            in_bundle(&|bundle| bundle["mediaType"] = format!("{media}{other}").into()).unwrap_err();
        assert!(refused.to_string().contains("its media type is"), "{other}: {refused}");
    }
    for algorithm in ["SHA2_512", "HASH_ALGORITHM_UNSPECIFIED", ""] {
        let change =
            |bundle: &mut Value| bundle["messageSignature"]["messageDigest"]["algorithm"] = algorithm.into();
        let refused = in_bundle(&change).unwrap_err();
        assert!(refused.to_string().contains("must be `SHA2_256`"), "{algorithm}: {refused}");
    }

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

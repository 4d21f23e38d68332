//! Chains that must not hold: each of them signed as it should be, and wrong in one thing.

use std::time::{Duration, SystemTime};

use mentat_attestation::{KeyFault, Options, Rejection, Verifier};
use mentat_manifest::ModuleDigest;

use crate::authority::{
    Holder, INTERMEDIATE, MANIFEST, MODULE, Order, ROOT, RSA_2048, SIGNER, Usual, Workshop, anchors, now,
};

/// The code of the rejection of a chain by `signer`, under the usual root.
fn refused(usual: &Usual, signer: &Holder, above: &[&Holder]) -> Rejection {
    let chain = [&[signer], above].concat();
    let attestation = usual.workshop.attest(signer, "ECDSA-P256", &chain);
    usual.verify(&attestation).expect_err(&signer.name)
}

#[test]
fn a_signer_is_certified_for_signing_code_and_nothing_else() {
    let usual = Usual::new();
    let usage = "keyUsage=critical,digitalSignature\n";
    let purpose = "extendedKeyUsage=codeSigning\n";
    let basic = "basicConstraints=critical,CA:FALSE\n";
    for (number, (extensions, code)) in (0..).zip([
        (format!("{basic}keyUsage=critical,keyEncipherment\n{purpose}"), "key_usage"),
        (format!("{basic}keyUsage=critical,nonRepudiation\n{purpose}"), "key_usage"),
        (format!("{basic}{purpose}"), "key_usage"),
        (format!("{basic}{usage}"), "extended_key_usage"),
        (format!("{basic}{usage}extendedKeyUsage=serverAuth\n"), "extended_key_usage"),
        (format!("{basic}{usage}extendedKeyUsage=anyExtendedKeyUsage\n"), "extended_key_usage"),
        (format!("{basic}{usage}extendedKeyUsage=codeSigning,anyExtendedKeyUsage\n"), "extended_key_usage"),
        (format!("basicConstraints=critical,CA:TRUE\n{usage}{purpose}"), "authority_as_signer"),
        // Something that must be understood and is not.
        (format!("{basic}{usage}{purpose}1.2.3.4.5=critical,ASN1:NULL\n"), "chain_unverifiable"),
    ]) {
        let order = Order { extensions: &extensions, ..Order::default() };
        let signer = usual.workshop.issue(&format!("signer{number}"), Some(&usual.intermediate), &order);
        assert_eq!(refused(&usual, &signer, &[&usual.intermediate]).code(), code, "{extensions}");
    }
}

#[test]
fn only_authorities_issue_and_only_as_deep_as_they_may() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    let authority = |name: &str, issuer: &Holder, extensions: &str| {
        let subject = format!("/O=Example/CN={name}");
        workshop.issue(name, Some(issuer), &Order { subject: &subject, extensions, ..Order::default() })
    };
    let under =
        |issuer: &Holder| workshop.issue(&format!("under-{}", issuer.name), Some(issuer), &Order::default());
    for (name, extensions, code) in [
        ("no-ca", "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyCertSign\n", "not_an_authority"),
        ("says-nothing", "keyUsage=critical,keyCertSign\n", "not_an_authority"),
        ("no-signing", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,cRLSign\n", "key_usage"),
        (
            "of-servers",
            "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nextendedKeyUsage=serverAuth\n",
            "extended_key_usage",
        ),
    ] {
        let issuer = authority(name, &usual.root, extensions);
        assert_eq!(refused(&usual, &under(&issuer), &[&issuer]).code(), code, "{name}");
    }
    // A signer who issues for another.
    let by_signer = under(&usual.signer);
    let rejection = refused(&usual, &by_signer, &[&usual.signer, &usual.intermediate]);
    assert_eq!(rejection.code(), "not_an_authority");
    // Below an intermediate with `pathlen:0`.
    let deeper = authority("deeper", &usual.intermediate, ROOT);
    let Rejection::PathLength(place) = refused(&usual, &under(&deeper), &[&deeper, &usual.intermediate])
    else {
        panic!("another rejection")
    };
    assert_eq!((place.number, place.subject.as_str()), (3, "CN=Intermediate,O=Example"));
    // One that may have one below it.
    let one = authority("one", &usual.root, &INTERMEDIATE.replace("pathlen:0", "pathlen:1"));
    let below = authority("below", &one, INTERMEDIATE);
    let attestation =
        workshop.attest(&under(&below), "ECDSA-P256", &[&workshop.holder("under-below"), &below, &one]);
    usual.verify(&attestation).unwrap();
}

#[test]
fn a_root_limits_how_deep_its_chains_are() {
    let workshop = Workshop::new();
    let root = workshop.issue(
        "root",
        None,
        &Order {
            subject: "/CN=Root",
            extensions: &ROOT.replace("CA:TRUE", "CA:TRUE,pathlen:0"),
            ..Order::default()
        },
    );
    let intermediate = workshop.issue(
        "intermediate",
        Some(&root),
        &Order { subject: "/CN=Intermediate", extensions: INTERMEDIATE, ..Order::default() },
    );
    let signer = workshop.issue("signer", Some(&intermediate), &Order::default());
    let verifier = Verifier::new(anchors(&[&root]), Default::default(), Options::default());
    let attestation = workshop.attest(&signer, "ECDSA-P256", &[&signer, &intermediate]);
    let rejection = verifier.verify(MANIFEST, &attestation, &ModuleDigest::of(MODULE), now()).unwrap_err();
    assert!(matches!(&rejection, Rejection::PathLength(place) if place.number == 0), "{rejection:?}");
}

#[test]
fn a_chain_is_valid_now_and_was_when_the_agent_was_signed() {
    let usual = Usual::new();
    let issue = |name: &str, from: &str, to: &str| {
        usual.workshop.issue(name, Some(&usual.intermediate), &Order { from, to, ..Order::default() })
    };
    let expired = issue("expired", "20200101000000Z", "20260615000000Z");
    let early = issue("early", "20380101000000Z", "20400101000000Z");
    let later = issue("later", "20260610000000Z", "20400101000000Z");
    for (signer, code) in [
        (expired, "certificate_expired"),
        (early, "certificate_not_yet_valid"),
        (later, "not_valid_when_signed"),
    ] {
        assert_eq!(refused(&usual, &signer, &[&usual.intermediate]).code(), code);
    }
    let old = usual.workshop.issue(
        "old",
        Some(&usual.root),
        &Order { subject: "/CN=Old", extensions: INTERMEDIATE, to: "20260615000000Z", ..Order::default() },
    );
    let under_old = usual.workshop.issue("under-old", Some(&old), &Order::default());
    let Rejection::Expired(place, _) = refused(&usual, &under_old, &[&old]) else {
        panic!("another rejection")
    };
    assert_eq!(place.number, 2);
    // Expired roots are trusted no longer.
    let order = Order { subject: "/CN=Past", extensions: ROOT, to: "20260615000000Z", ..Order::default() };
    let past = usual.workshop.issue("past", None, &order);
    let under_past = usual.workshop.issue("under-past", Some(&past), &Order::default());
    let verifier = Verifier::new(anchors(&[&past]), Default::default(), Options::default());
    let attestation = usual.workshop.attest(&under_past, "ECDSA-P256", &[&under_past]);
    let rejection = verifier.verify(MANIFEST, &attestation, &ModuleDigest::of(MODULE), now()).unwrap_err();
    assert!(matches!(&rejection, Rejection::Expired(place, _) if place.number == 0), "{rejection:?}");
}

#[test]
fn a_clock_that_is_behind_is_forgiven_by_the_skew_and_no_more() {
    let usual = Usual::new();
    // 2026-06-01T12:00:00Z
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_315_200);
    let order = Order { from: "20260601120000Z", to: "20260601130000Z", ..Order::default() };
    let fresh = usual.workshop.issue("fresh", Some(&usual.intermediate), &order);
    let attestation = usual.workshop.attest(&fresh, "ECDSA-P256", &[&fresh, &usual.intermediate]);
    let at = |skew: u64, now: SystemTime| {
        let options = Options { clock_skew: Duration::from_secs(skew), ..Options::default() };
        let verifier = usual.verifier(&[], options);
        verifier
            .verify(MANIFEST, &attestation, &ModuleDigest::of(MODULE), now)
            .map_err(|rejection| rejection.code())
            .map(|signer| signer.signed_at)
    };
    let second = Duration::from_secs(1);
    assert_eq!(at(0, noon), Ok(noon));
    assert_eq!(at(0, noon - second), Err("signed_in_future"));
    assert_eq!(at(60, noon - 60 * second), Ok(noon));
    assert_eq!(at(60, noon - 61 * second), Err("signed_in_future"));
    assert_eq!(at(60, noon + 3600 * second), Ok(noon));
    assert_eq!(at(60, noon + 3601 * second), Err("certificate_expired"));
}

#[test]
fn a_certificate_that_is_signed_by_an_algorithm_that_is_not_taken_is_refused() {
    let usual = Usual::of(&Order { digest: "sha3-256", ..Order::default() });
    let rejection = usual.verify(&usual.attest()).unwrap_err();
    assert_eq!(rejection.code(), "chain_unverifiable");
    assert!(rejection.to_string().contains("an algorithm that is not taken"), "{rejection}");
}

#[test]
fn chains_that_lead_elsewhere_are_refused() {
    let usual = Usual::new();
    // Somebody else's authorities, once of other names and once of the same.
    let stranger = Workshop::new();
    let order = |subject, extensions| Order { subject, extensions, ..Order::default() };
    let root = stranger.issue("root", None, &order("/O=Other/CN=Root", ROOT));
    let signer = stranger.issue("signer", Some(&root), &Order::default());
    let rejection = usual.verify(&stranger.attest(&signer, "ECDSA-P256", &[&signer, &root])).unwrap_err();
    assert_eq!(rejection.code(), "untrusted_issuer");

    let imitated = Usual::new();
    assert_eq!(usual.verify(&imitated.attest()), Err(Rejection::CertificateForged));
    // The right intermediate above a signer of the wrong one.
    let mut mixed = imitated.attest();
    mixed.certificate_chain[1] = usual.intermediate.pem();
    assert_eq!(usual.verify(&mixed), Err(Rejection::CertificateForged));
    // A root of one's own, sent along, is not trusted for that.
    let mut sent = imitated.attest();
    sent.certificate_chain.push(imitated.root.pem());
    assert_eq!(usual.verify(&sent).unwrap_err().code(), "certificate_forged");
    // Both roots of one name are trusted: each chain holds by its own.
    let verifier =
        Verifier::new(anchors(&[&imitated.root, &usual.root]), Default::default(), Options::default());
    for attestation in [usual.attest(), imitated.attest()] {
        verifier.verify(MANIFEST, &attestation, &ModuleDigest::of(MODULE), now()).unwrap();
    }
    // The right certificate and another's key.
    let mut stolen = imitated.attest();
    stolen.certificate_chain = usual.attest().certificate_chain;
    assert_eq!(usual.verify(&stolen), Err(Rejection::SignatureMismatch));
    // Nobody is trusted.
    let nobody = Verifier::default();
    let rejection = nobody.verify(MANIFEST, &usual.attest(), &ModuleDigest::of(MODULE), now()).unwrap_err();
    assert_eq!(rejection.code(), "untrusted_issuer");
}

#[test]
fn chains_out_of_order_with_loops_or_endless_are_refused_at_once() {
    let usual = Usual::new();
    let with = |chain: Vec<String>| {
        let mut attestation = usual.attest();
        attestation.certificate_chain = chain;
        usual.verify(&attestation).unwrap_err()
    };
    let (signer, intermediate, root) = (usual.signer.pem(), usual.intermediate.pem(), usual.root.pem());
    assert_eq!(with(vec![intermediate.clone(), signer.clone()]).code(), "chain_broken");
    assert_eq!(with(vec![signer.clone()]).code(), "untrusted_issuer");
    assert_eq!(with(vec![signer.clone(), root]).code(), "untrusted_issuer");
    let twice = with(vec![signer.clone(), intermediate.clone(), intermediate.clone()]);
    assert_eq!(twice.code(), "chain_broken");

    // Two authorities that certify each other.
    let workshop = &usual.workshop;
    let order = |subject| Order { subject, extensions: ROOT, ..Order::default() };
    let a = workshop.issue("a", None, &order("/CN=A"));
    let b = workshop.issue("b", Some(&a), &order("/CN=B"));
    std::fs::copy(a.path("key"), workshop.path("a-by-b.key")).unwrap();
    let a_by_b = workshop.issue("a-by-b", Some(&b), &order("/CN=A"));
    std::fs::copy(b.path("key"), workshop.path("b-by-a.key")).unwrap();
    let by_b = workshop.issue("by-b", Some(&b), &Order::default());
    let attestation = workshop.attest(&by_b, "ECDSA-P256", &[&by_b, &b, &a_by_b, &b, &a_by_b]);
    assert_eq!(usual.verify(&attestation).unwrap_err().code(), "chain_loop");

    let many: Vec<String> = std::iter::repeat_n(intermediate, 999).collect();
    assert_eq!(with([vec![signer], many].concat()), Rejection::ChainTooLong(1000));
}

#[test]
fn what_is_no_certificate_is_refused_and_so_is_a_large_one() {
    let usual = Usual::new();
    let pem = usual.signer.pem();
    let mut trailing = usual.workshop.openssl(["x509", "-in", "signer.pem", "-outform", "DER"]);
    trailing.push(0);
    let armour = |der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    for bad in [
        String::new(),
        "certificate".into(),
        pem.replace("CERTIFICATE", "PUBLIC KEY"),
        format!("{pem}{pem}"),
        armour(&trailing),
        armour(&trailing[..trailing.len() / 2]),
        armour(&vec![0x30; 20 << 10]),
        "x".repeat(1 << 20),
    ] {
        let mut attestation = usual.attest();
        attestation.certificate_chain[0] = bad;
        let rejection = usual.verify(&attestation).unwrap_err();
        assert!(matches!(rejection, Rejection::Certificate { number: 1, .. }), "{rejection:?}");
    }
}

#[test]
fn certificates_that_are_signed_by_what_can_be_forged_are_refused() {
    let usual = Usual::of(&Order { digest: "sha1", ..Order::default() });
    let rejection = usual.verify(&usual.attest()).unwrap_err();
    assert!(matches!(&rejection, Rejection::WeakSignature(place, _) if place.number == 1), "{rejection:?}");
    assert!(rejection.to_string().contains("SHA-1 with ECDSA"), "{rejection}");
    // With RSA, as certificates were once forged.
    let workshop = Workshop::new();
    let order = Order { subject: "/CN=Root", extensions: ROOT, key: RSA_2048, ..Order::default() };
    let root = workshop.issue("root", None, &order);
    let verifier = Verifier::new(anchors(&[&root]), Default::default(), Options::default());
    for (digest, says) in [("md5", "MD5 with RSA"), ("sha1", "SHA-1 with RSA")] {
        let signer = workshop.issue(digest, Some(&root), &Order { digest, ..Order::default() });
        let attestation = workshop.attest(&signer, "ECDSA-P256", &[&signer]);
        let rejection =
            verifier.verify(MANIFEST, &attestation, &ModuleDigest::of(MODULE), now()).unwrap_err();
        assert!(rejection.to_string().contains(says), "{rejection}");
    }
}

#[test]
fn keys_that_are_weak_or_of_other_kinds_are_refused() {
    let rsa = |bits: &'static str| vec!["-algorithm", "RSA", "-pkeyopt", bits];
    let curve = |name: &'static str| vec!["-algorithm", "EC", "-pkeyopt", name];
    for (key, fault) in [
        (rsa("rsa_keygen_bits:1024"), KeyFault::RsaBits(1024)),
        (rsa("rsa_keygen_bits:2040"), KeyFault::RsaBits(2040)),
        (
            [rsa("rsa_keygen_bits:2048"), vec!["-pkeyopt", "rsa_keygen_pubexp:3"]].concat(),
            KeyFault::RsaExponent,
        ),
        (curve("ec_paramgen_curve:P-521"), KeyFault::Unsupported("the curve 1.3.132.0.35".into())),
        (curve("ec_paramgen_curve:secp256k1"), KeyFault::Unsupported("the curve 1.3.132.0.10".into())),
        (vec!["-algorithm", "ED448"], KeyFault::Unsupported("1.3.101.113".into())),
    ] {
        let usual = Usual::of(&Order { key: &key, ..Order::default() });
        let chain = vec![usual.signer.pem(), usual.intermediate.pem()];
        let attestation = usual.workshop.block(&usual.signer, "SHA256withRSA", &[1; 256], chain);
        let rejection = usual.verify(&attestation).unwrap_err();
        assert!(
            matches!(&rejection, Rejection::Key(place, found) if place.number == 1 && *found == fault),
            "{rejection:?}"
        );
    }
}

/// DER of one value.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut bytes = vec![tag];
    match length {
        0..=127 => bytes.push(u8::try_from(length).unwrap()),
        _ => {
            bytes.push(0x82);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    [bytes, contents.to_vec()].concat()
}

/// An RSA public key of these numbers, as PEM; nobody has a private part of it.
fn rsa_key(modulus: &[u8], exponent: &[u8]) -> String {
    use base64::Engine as _;
    let numbers = [der(2, modulus), der(2, exponent)].concat();
    let bits = der(3, &[vec![0], der(0x30, &numbers)].concat());
    let algorithm = hex::decode("300d06092a864886f70d0101010500").unwrap();
    let key = der(0x30, &[algorithm, bits].concat());
    let text = base64::engine::general_purpose::STANDARD.encode(key);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

#[test]
fn huge_rsa_keys_and_exponents_are_refused_before_anything_is_computed() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    let modulus = |bytes: usize| [vec![0, 0xc5], vec![0x5b; bytes - 2], vec![0x01]].concat();
    let huge = |name: &str, modulus: &[u8], exponent: &[u8], extensions: &str, issuer: &str| {
        std::fs::write(workshop.path("forced.pub"), rsa_key(modulus, exponent)).unwrap();
        std::fs::write(workshop.path("forced.ext"), extensions).unwrap();
        let (out, pem, key) = (format!("{name}.pem"), format!("{issuer}.pem"), format!("{issuer}.key"));
        let request = if extensions == SIGNER { "signer.csr" } else { "intermediate.csr" };
        workshop.openssl([
            "x509",
            "-req",
            "-in",
            request,
            "-force_pubkey",
            "forced.pub",
            "-CA",
            &pem,
            "-CAkey",
            &key,
            "-CAcreateserial",
            "-days",
            "3650",
            "-extfile",
            "forced.ext",
            "-out",
            &out,
        ]);
        workshop.holder(name)
    };
    let usual_exponent: &[u8] = &[1, 0, 1];
    let large_exponent = [&[0x7f][..], &[0xff; 250]].concat();
    let even = [modulus(256)[..256].to_vec(), vec![2]].concat();
    for (name, modulus, exponent, fault) in [
        ("wide", modulus(2048), usual_exponent, KeyFault::RsaBits(16_384)),
        ("wider", modulus(1025), usual_exponent, KeyFault::RsaBits(8200)),
        ("long-exponent", modulus(256), &large_exponent, KeyFault::RsaExponent),
        ("exponent-1", modulus(256), &[1], KeyFault::RsaExponent),
        ("exponent-even", modulus(256), &[1, 0, 2], KeyFault::RsaExponent),
        ("negative", vec![0x80; 256], usual_exponent, KeyFault::RsaModulus),
        ("even", even, usual_exponent, KeyFault::RsaModulus),
    ] {
        let signer = huge(name, &modulus, exponent, SIGNER, "intermediate");
        let chain = vec![signer.pem(), usual.intermediate.pem()];
        let attestation = workshop.block(&signer, "SHA256withRSA", &[1; 256], chain);
        let rejection = usual.verify(&attestation).unwrap_err();
        assert!(
            matches!(&rejection, Rejection::Key(place, found) if place.number == 1 && *found == fault),
            "{rejection:?}"
        );
        // The same above the signer, where it would be computed with first.
        let above = huge(&format!("{name}-above"), &modulus, exponent, INTERMEDIATE, "root");
        let chain = vec![usual.signer.pem(), above.pem()];
        let attestation = workshop.block(&usual.signer, "ECDSA-P256", &[1; 64], chain);
        let rejection = usual.verify(&attestation).unwrap_err();
        assert!(
            matches!(&rejection, Rejection::Key(place, found) if place.number == 2 && *found == fault),
            "{rejection:?}"
        );
    }
}

//! What authorities and roots limit of that which is issued below them: names, depth, policies; and which root counts.

use mentat_attestation::{KeyFault, Options, Rejection, Revocations, TrustError, Verifier};
use mentat_manifest::ModuleDigest;

use crate::authority::{Holder, INTERMEDIATE, MANIFEST, MODULE, Order, ROOT, SIGNER, Usual, anchors, now};

#[test]
fn name_constraints_hold() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    for (number, (constraints, name, code)) in (0..).zip([
        ("permitted;DNS:example.com", "DNS:build.example.com", None),
        ("permitted;DNS:example.com", "DNS:build.example.net", Some("name_constraints")),
        ("excluded;DNS:example.com", "DNS:build.example.com", Some("name_constraints")),
        ("permitted;email:example.com", "email:dev@evil.com", Some("name_constraints")),
        // A name of a kind that is not constrained.
        ("permitted;DNS:example.com", "email:dev@evil.com", None),
    ]) {
        let extensions = format!("{INTERMEDIATE}nameConstraints=critical,{constraints}\n");
        let subject = format!("/CN=Constrained {number}");
        let order = Order { subject: &subject, extensions: &extensions, ..Order::default() };
        let issuer = workshop.issue(&format!("constrained{number}"), Some(&usual.root), &order);
        let extensions = SIGNER.replace("email:dev@example.com", name);
        let order = Order { extensions: &extensions, ..Order::default() };
        let signer = workshop.issue(&format!("named{number}"), Some(&issuer), &order);
        let attestation = workshop.attest(&signer, "ECDSA-P256", &[&signer, &issuer]);
        let rejection = usual.verify(&attestation).err().map(|rejection| rejection.code());
        assert_eq!(rejection, code, "{constraints} {name}");
    }
}

#[test]
fn constraints_on_emails_are_for_those_in_names_as_well() {
    let unnamed = SIGNER.replace("subjectAltName=email:dev@example.com\n", "");
    let dns = SIGNER.replace("email:dev@example.com", "DNS:dev.example.com");
    for (constraints, subject, extensions, code) in [
        (
            "permitted;email:good.example",
            "/CN=D/emailAddress=boss@evil.example",
            &unnamed,
            Some("name_constraints"),
        ),
        (
            "excluded;email:evil.example",
            "/CN=D/emailAddress=boss@evil.example",
            &unnamed,
            Some("name_constraints"),
        ),
        (
            "permitted;email:good.example",
            "/CN=D/emailAddress=boss@evil.example",
            &dns,
            Some("name_constraints"),
        ),
        // They are not evaluated.
        (
            "permitted;email:good.example",
            "/CN=D/emailAddress=dev@good.example",
            &unnamed,
            Some("name_constraints"),
        ),
        ("permitted;email:good.example", "/CN=D", &unnamed, None),
        ("permitted;DNS:example.com", "/CN=D/emailAddress=boss@evil.example", &unnamed, None),
    ] {
        let order = Order { subject, extensions, ..Order::default() };
        for at_root in [false, true] {
            let usual = Usual::new();
            let workshop = &usual.workshop;
            let constrained = |base: &str| format!("{base}nameConstraints=critical,{constraints}\n");
            let (of_root, of_issuer) = match at_root {
                true => (constrained(ROOT), INTERMEDIATE.to_owned()),
                false => (ROOT.to_owned(), constrained(INTERMEDIATE)),
            };
            let order_of = |subject, extensions| Order { subject, extensions, ..Order::default() };
            let root = workshop.issue("bound-root", None, &order_of("/CN=Bound Root", &of_root));
            let issuer = workshop.issue("bound", Some(&root), &order_of("/CN=Bound", &of_issuer));
            let signer = workshop.issue("named", Some(&issuer), &order);
            let attestation = workshop.attest(&signer, "ECDSA-P256", &[&signer, &issuer]);
            let verifier = Verifier::new(anchors(&[&root]), Revocations::default(), Options::default());
            let verified = verifier.verify(MANIFEST, &attestation, &ModuleDigest::of(MODULE), now());
            assert_eq!(verified.err().map(|found| found.code()), code, "{constraints} {subject} {at_root}");
        }
    }
}

#[test]
fn an_authority_that_changed_its_key_where_none_may_stand_below_it_is_told_why() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    let order = Order { subject: "/O=Example/CN=Intermediate", extensions: INTERMEDIATE, ..Order::default() };
    let renewed = workshop.issue("renewed", Some(&usual.intermediate), &order);
    let signer = workshop.issue("by-renewed", Some(&renewed), &Order::default());
    let attestation = workshop.attest(&signer, "ECDSA-P256", &[&signer, &renewed, &usual.intermediate]);
    let refused = usual.verify(&attestation).unwrap_err();
    assert!(matches!(&refused, Rejection::PathLength(place) if place.number == 3), "{refused:?}");
    assert!(refused.to_string().contains("issued for itself"), "{refused}");
}

#[test]
fn an_issuers_name_in_other_bytes_is_told_from_another_name() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    for (name, above) in [("intermediate", vec![]), ("root", vec![&usual.root])] {
        // The same key, and a certificate with the name in other capital letters.
        let other = format!("other-{name}");
        std::fs::copy(workshop.path(&format!("{name}.key")), workshop.path(&format!("{other}.key"))).unwrap();
        let subject = format!("/O=EXAMPLE/CN={name}");
        let order = Order { subject: &subject, extensions: ROOT, ..Order::default() };
        let other = workshop.issue(&other, None, &order);
        let signer = workshop.issue(&format!("by-{name}"), Some(&other), &Order::default());
        let verifier =
            Verifier::new(anchors(&[&workshop.holder(name)]), Revocations::default(), Options::default());
        let chain = [vec![&signer], above].concat();
        let attestation = workshop.attest(&signer, "ECDSA-P256", &chain);
        let refused = verifier.verify(MANIFEST, &attestation, &ModuleDigest::of(MODULE), now()).unwrap_err();
        assert!(matches!(&refused, Rejection::IssuerMisnamed(place, _) if place.number == 1), "{refused:?}");
    }
}

#[test]
fn a_policy_counts_where_every_authority_that_names_policies_names_it() {
    let usual = Usual::new();
    let (one, two) = ("1.3.6.1.4.1.55555.1", "1.3.6.1.4.1.55555.2");
    for (number, (policies, expected)) in (0..).zip([
        ("", vec![one, two]),
        ("certificatePolicies=2.5.29.32.0\n", vec![one, two]),
        ("certificatePolicies=1.3.6.1.4.1.55555.2\n", vec![two]),
        ("certificatePolicies=1.3.6.1.4.1.55555.3\n", vec![]),
    ]) {
        let extensions = format!("{INTERMEDIATE}{policies}");
        let subject = format!("/CN=Of policies {number}");
        let order = Order { subject: &subject, extensions: &extensions, ..Order::default() };
        let issuer = usual.workshop.issue(&format!("policies{number}"), Some(&usual.root), &order);
        let name = format!("under-policies{number}");
        let signer = usual.workshop.issue(&name, Some(&issuer), &Order::default());
        let attestation = usual.workshop.attest(&signer, "ECDSA-P256", &[&signer, &issuer]);
        assert_eq!(usual.verify(&attestation).unwrap().policies, expected, "{policies}");
    }
    // The same where the authority is trusted by itself, and sent or not.
    let issuer = usual.workshop.holder("policies2");
    let signer = usual.workshop.holder("under-policies2");
    for roots in [vec![&issuer], vec![&usual.root, &issuer], vec![&issuer, &usual.root]] {
        let verifier = Verifier::new(anchors(&roots), Revocations::default(), Options::default());
        for chain in [vec![&signer], vec![&signer, &issuer]] {
            let attestation = usual.workshop.attest(&signer, "ECDSA-P256", &chain);
            let found = verifier.verify(MANIFEST, &attestation, &ModuleDigest::of(MODULE), now()).unwrap();
            assert_eq!(found.policies, [two]);
        }
    }
    // One that is for every policy has none.
    let extensions = SIGNER.replace("1.3.6.1.4.1.55555.1", "2.5.29.32.0");
    let order = Order { extensions: &extensions, ..Order::default() };
    let signer = usual.workshop.issue("any", Some(&usual.intermediate), &order);
    let attestation = usual.workshop.attest(&signer, "ECDSA-P256", &[&signer, &usual.intermediate]);
    assert_eq!(usual.verify(&attestation).unwrap().policies, [two]);
}

#[test]
fn roots_are_authorities_with_keys_worth_trusting() {
    let usual = Usual::new();
    let add = |pem: &str| mentat_attestation::Anchors::default().add(pem.as_bytes());
    assert_eq!(add(&usual.signer.pem()), Err(TrustError::NotAnAuthority("CN=Dev,O=Example".into())));
    assert_eq!(add("nothing"), Err(TrustError::Nothing("CERTIFICATE")));
    assert_eq!(add(&"x".repeat(17 << 20)), Err(TrustError::TooLarge));
    let weak = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
    let order = Order { subject: "/CN=Weak", extensions: ROOT, key: &weak, ..Order::default() };
    let weak = usual.workshop.issue("weak", None, &order);
    assert_eq!(add(&weak.pem()), Err(TrustError::Key("CN=Weak".into(), KeyFault::RsaBits(1024))));
    let bundle = format!("{}{}{}", usual.root.pem(), usual.intermediate.pem(), usual.root.pem());
    let mut anchors = mentat_attestation::Anchors::default();
    anchors.add(bundle.as_bytes()).unwrap();
    anchors.add(&usual.workshop.openssl(["x509", "-in", "root.pem", "-outform", "DER"])).unwrap();
    assert_eq!(anchors.roots().len(), 2);
}

#[test]
fn a_root_that_was_renewed_is_trusted_in_whichever_order_both_are_given() {
    let usual = Usual::new();
    std::fs::copy(usual.workshop.path("root.key"), usual.workshop.path("old.key")).unwrap();
    let order = Order {
        subject: "/O=Example/CN=Root",
        extensions: ROOT,
        from: "20100101000000Z",
        to: "20200102000000Z",
        ..Order::default()
    };
    let old = usual.workshop.issue("old", None, &order);
    let verify = |roots: &[&Holder]| {
        let verifier = Verifier::new(anchors(roots), Revocations::default(), Options::default());
        verifier.verify(MANIFEST, &usual.attest(), &ModuleDigest::of(MODULE), now()).map(|_| ())
    };
    assert_eq!(verify(&[&old, &usual.root]), Ok(()));
    assert_eq!(verify(&[&usual.root, &old]), Ok(()));
    assert_eq!(verify(&[&old]).unwrap_err().code(), "certificate_expired");
    // Of two that are valid the one counts that is so for longer, and a rule about it in either order.
    std::fs::copy(usual.workshop.path("root.key"), usual.workshop.path("longer.key")).unwrap();
    let order = Order { to: "20450101000000Z", from: "20200101000000Z", ..order };
    let longer = usual.workshop.issue("longer", None, &order);
    let root = |roots: &[&Holder]| {
        let verifier = Verifier::new(anchors(roots), Revocations::default(), Options::default());
        let found = verifier.verify(MANIFEST, &usual.attest(), &ModuleDigest::of(MODULE), now()).unwrap();
        found.root_fingerprint
    };
    let fingerprint = anchors(&[&longer]).roots()[0].fingerprint();
    assert_eq!(root(&[&longer, &usual.root]), fingerprint);
    assert_eq!(root(&[&usual.root, &longer]), fingerprint);
}

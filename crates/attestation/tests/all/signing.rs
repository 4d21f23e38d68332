//! Blocks that are made here, and an authority's certificates and lists: verified here, by `openssl` and by Python's
//! `cryptography`.

use std::process::Command;
use std::time::SystemTime;

use mentat_attestation::signing::authority::{
    Authority, AuthorityError, CertificateKind, Developer, Founding, RevocationReason,
};
use mentat_attestation::signing::{
    KeyFile, NewKey, PrivateKey, SignError, SigningKey, read_certificates, sign, with_attestation,
};
use mentat_attestation::{
    Algorithm, Anchors, Options, PublicKey, Rejection, Revocations, Statement, Verifier,
};
use mentat_manifest::{Manifest, ModuleDigest};
use time::OffsetDateTime;

use crate::authority::{
    ED25519, INTERMEDIATE, MANIFEST, MODULE, Order, P256, P384, ROOT, RSA_2048, Workshop, python,
};

fn clear(file: KeyFile) -> PrivateKey {
    match file {
        KeyFile::Clear(key) => *key,
        KeyFile::Encrypted(_) => panic!("it is not encrypted"),
    }
}

fn founding(algorithm: Algorithm) -> Founding {
    Founding { organisation: "Example".into(), algorithm, passphrase: None, crl_days: 30 }
}

fn alice() -> Developer {
    Developer {
        email: "alice@example.com".into(),
        name: Some("Alice".into()),
        days: 365,
        policies: vec!["1.3.6.1.4.1.55555.7".into()],
    }
}

fn module() -> ModuleDigest {
    ModuleDigest::of(MODULE)
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

#[test]
fn a_block_by_every_kind_of_key_is_verified_here_by_openssl_and_by_python() {
    let shop = Workshop::new();
    let root = shop.issue("root", None, &Order { subject: "/CN=Root", extensions: ROOT, ..Order::default() });
    let middle = shop.issue(
        "middle",
        Some(&root),
        &Order { subject: "/CN=Middle", extensions: INTERMEDIATE, ..Order::default() },
    );
    for (number, kind) in [P256, P384, ED25519, RSA_2048].into_iter().enumerate() {
        let name = format!("dev{number}");
        let dev = shop.issue(&name, Some(&middle), &Order { key: kind, ..Order::default() });
        let key = clear(KeyFile::parse(&std::fs::read_to_string(dev.path("key")).unwrap()).unwrap());
        let chain = read_certificates(format!("{}{}", dev.pem(), middle.pem()).as_bytes()).unwrap();
        let key = SigningKey::Held(Box::new(key));
        let block = sign(MANIFEST, &module(), &key, &chain, SystemTime::now()).unwrap();
        let signed = with_attestation(MANIFEST, &block).unwrap();
        assert!(signed.starts_with(MANIFEST));

        let read = Manifest::parse(&signed).unwrap().attestation.unwrap();
        let mut anchors = Anchors::default();
        anchors.add(root.pem().as_bytes()).unwrap();
        let verifier = Verifier::new(anchors, Revocations::default(), Options::default());
        let signer = verifier.verify(&signed, &read, &module(), SystemTime::now()).unwrap();
        assert_eq!(signer.email.as_deref(), Some("dev@example.com"));

        // By the sentence in the documentation alone: the manifest as it is now, without the block, with the digest.
        let statement = Statement::new(&signed, &module()).unwrap();
        std::fs::write(shop.path("message"), statement.canonical()).unwrap();
        shop.openssl(["x509", "-in", &format!("{name}.pem"), "-pubkey", "-noout", "-out", "public"]);
        std::fs::write(shop.path("signature.base64"), &block.signature).unwrap();
        shop.openssl(["base64", "-d", "-A", "-in", "signature.base64", "-out", "signature"]);
        let digest = if block.algorithm == "ECDSA-P384" { "-sha384" } else { "-sha256" };
        if block.algorithm == "Ed25519" {
            let files = ["-inkey", "public", "-rawin", "-in", "message", "-sigfile", "signature"];
            shop.openssl([&["pkeyutl", "-verify", "-pubin"], &files[..]].concat());
        } else {
            shop.openssl(["dgst", digest, "-verify", "public", "-signature", "signature", "message"]);
        }
        let verified = Command::new(python())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/verify.py"))
            .args([shop.path(&format!("{name}.pem")), shop.path("message"), shop.path("signature")])
            .arg(&block.algorithm)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && verified.stdout == b"holds\n", "{told}");
    }
}

#[test]
fn what_nobody_would_accept_is_not_signed() {
    let shop = Workshop::new();
    let root = shop.issue("root", None, &Order { subject: "/CN=Root", extensions: ROOT, ..Order::default() });
    let key_of = |name: &str| {
        let pem = std::fs::read_to_string(shop.path(&format!("{name}.key"))).unwrap();
        SigningKey::Held(Box::new(clear(KeyFile::parse(&pem).unwrap())))
    };
    let attempt = |key: &str, chain: &str| {
        let chain = read_certificates(chain.as_bytes()).unwrap();
        sign(MANIFEST, &module(), &key_of(key), &chain, SystemTime::now()).unwrap_err()
    };
    let under = |name: &str, order: &Order<'_>| shop.issue(name, Some(&root), order);
    let dev = under("dev", &Order::default());
    let chain = dev.pem() + &root.pem();
    assert!(matches!(attempt("root", &chain), SignError::WrongKey(subject) if subject == "CN=Dev,O=Example"));
    assert!(matches!(attempt("dev", &dev.pem()), SignError::NoIssuer));
    let rejected = |name: &str, order: &Order<'_>| {
        let holder = under(name, order);
        match attempt(name, &(holder.pem() + &root.pem())) {
            SignError::Rejected(rejection) => rejection.code(),
            other => panic!("{other}"),
        }
    };
    let expired = Order { from: "20200101000000Z", to: "20210101000000Z", ..Order::default() };
    assert_eq!(rejected("expired", &expired), "certificate_expired");
    let early = Order { from: "20390101000000Z", ..Order::default() };
    assert_eq!(rejected("early", &early), "certificate_not_yet_valid");
    let tls = "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n";
    assert_eq!(rejected("tls", &Order { extensions: tls, ..Order::default() }), "extended_key_usage");
    let stranger =
        shop.issue("other", None, &Order { subject: "/CN=Root", extensions: ROOT, ..Order::default() });
    let error = attempt("dev", &(dev.pem() + &stranger.pem()));
    assert!(matches!(error, SignError::Rejected(Rejection::CertificateForged)), "{error}");
    // The root that was given is not written; who verifies has it.
    let chain = read_certificates(chain.as_bytes()).unwrap();
    let block = sign(MANIFEST, &module(), &key_of("dev"), &chain, SystemTime::now()).unwrap();
    assert_eq!(block.certificate_chain.len(), 1);
    let big = format!("{MANIFEST}x-n: 9007199254740993\n");
    let error = sign(&big, &module(), &key_of("dev"), &chain, SystemTime::now()).unwrap_err();
    assert!(matches!(error, SignError::Statement(_)), "{error}");
}

#[test]
fn an_authoritys_certificates_and_lists_hold_for_openssl() {
    for algorithm in [Algorithm::EcdsaP256, Algorithm::EcdsaP384, Algorithm::Ed25519] {
        let shop = Workshop::new();
        let folder = shop.path("ca");
        Authority::init(&folder, &founding(algorithm), now()).unwrap();
        let mut authority = Authority::open(&folder).unwrap();
        let request = NewKey::generate(Algorithm::Ed25519).unwrap().certificate_request().unwrap();
        let key = || clear(Authority::key(&authority, CertificateKind::Intermediate).unwrap());
        let (issuing, revoking) = (key(), key());
        let issued = authority.issue(issuing, &alice(), &request, now()).unwrap();
        std::fs::write(shop.path("alice.crt"), &issued.chain_pem).unwrap();
        let crls = ["ca/crl/root_ca.crl", "ca/crl/intermediate_ca.crl"];
        for (issuer, crl) in ["ca/certs/root_ca.crt", "ca/certs/intermediate_ca.crt"].into_iter().zip(crls) {
            shop.openssl(["crl", "-in", crl, "-CAfile", issuer, "-noout", "-verify"]);
        }
        let verify = |shop: &Workshop| {
            let mut command = Command::new("openssl");
            let files = ["-CAfile", "ca/certs/root_ca.crt", "-untrusted", "alice.crt", "-x509_strict"];
            let lists = ["-CRLfile", crls[0], "-CRLfile", crls[1], "-crl_check_all"];
            let policy = ["-policy", "1.3.6.1.4.1.55555.7", "-explicit_policy"];
            command.arg("verify").args(files).args(lists).args(policy).arg("alice.crt");
            command.current_dir(shop.path("")).output().unwrap()
        };
        let held = verify(&shop);
        assert!(held.status.success(), "{}", String::from_utf8_lossy(&held.stderr));

        let text = String::from_utf8(shop.openssl(["x509", "-in", "alice.crt", "-noout", "-text"])).unwrap();
        for expected in [
            "Issuer: O = Example, CN = Example Agent CA",
            "Subject: O = Example, CN = Alice",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "X509v3 Extended Key Usage: \n                Code Signing\n",
            "CA:FALSE",
            "email:alice@example.com",
            "Policy: 1.3.6.1.4.1.55555.7",
            "X509v3 Authority Key Identifier",
            "X509v3 Subject Key Identifier",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let path_length = |name: &str, length: &str| {
            let text = String::from_utf8(shop.openssl(["x509", "-in", name, "-noout", "-text"])).unwrap();
            assert!(
                text.contains(&format!("CA:TRUE, pathlen:{length}\n"))
                    && text.contains("Certificate Sign, CRL Sign\n"),
                "{text}"
            );
        };
        path_length("ca/certs/root_ca.crt", "1");
        path_length("ca/certs/intermediate_ca.crt", "0");

        let revoked =
            authority.revoke(revoking, "alice@example.com", RevocationReason::KeyCompromise, 30, now());
        assert_eq!(revoked.unwrap().serial, issued.certificate.serial);
        let refused = verify(&shop);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("certificate revoked"));
        let text = String::from_utf8(shop.openssl(["crl", "-in", crls[1], "-noout", "-text"])).unwrap();
        for expected in
            [&issued.certificate.serial, "Key Compromise", "X509v3 CRL Number: \n                2\n"]
        {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}

#[test]
fn an_authority_certifies_keys_of_requests_and_nothing_of_their_names() {
    let shop = Workshop::new();
    let folder = shop.path("ca");
    Authority::init(&folder, &founding(Algorithm::EcdsaP256), now()).unwrap();
    let mut authority = Authority::open(&folder).unwrap();
    let key = |authority: &Authority| clear(authority.key(CertificateKind::Intermediate).unwrap());
    let config = "[req]\ndistinguished_name=dn\nreq_extensions=ext\nprompt=no\n[dn]\nCN=Root of all\n[ext]\nbasicConstraints=CA:TRUE\n";
    std::fs::write(shop.path("req.cnf"), config).unwrap();
    for kind in [P256, P384, ED25519, RSA_2048] {
        shop.openssl([&["genpkey", "-out", "key"], kind].concat());
        let request = shop.openssl(["req", "-new", "-key", "key", "-config", "req.cnf"]);
        let request = String::from_utf8(request).unwrap();
        let own = key(&authority);
        let issued = authority.issue(own, &alice(), &request, now()).unwrap();
        let certificates = read_certificates(issued.chain_pem.as_bytes()).unwrap();
        assert_eq!(certificates.len(), 2);
        assert_eq!(certificates[0].subject(), "CN=Alice,O=Example");
        let public = shop.openssl(["pkey", "-in", "key", "-pubout"]);
        assert_eq!(certificates[0].public_key().unwrap(), &PublicKey::read(&public).unwrap());
        std::fs::write(shop.path("issued.crt"), issued.chain_pem).unwrap();
        let text = String::from_utf8(shop.openssl(["x509", "-in", "issued.crt", "-noout", "-text"])).unwrap();
        assert!(text.contains("CA:FALSE"), "{text}");
    }
    let mut refused = |request: &str| {
        let own = key(&authority);
        authority.issue(own, &alice(), request, now()).unwrap_err()
    };
    shop.openssl(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", "key"]);
    let weak = String::from_utf8(shop.openssl(["req", "-new", "-key", "key", "-config", "req.cnf"])).unwrap();
    assert!(refused(&weak).to_string().contains("1024 bits"));
    let honest = NewKey::generate(Algorithm::EcdsaP256).unwrap().certificate_request().unwrap();
    let mut der = pem_to_der(&shop, &honest);
    let last = der.len() - 1;
    der[last] ^= 1;
    assert!(matches!(refused(&der_to_pem(&shop, &der)), AuthorityError::Request(_)));
    assert!(matches!(refused("no request"), AuthorityError::Request(_)));
    assert_eq!(authority.certificates().len(), 6);
}

fn pem_to_der(shop: &Workshop, pem: &str) -> Vec<u8> {
    std::fs::write(shop.path("x.pem"), pem).unwrap();
    shop.openssl(["req", "-in", "x.pem", "-outform", "DER"])
}

fn der_to_pem(shop: &Workshop, der: &[u8]) -> String {
    std::fs::write(shop.path("x.der"), der).unwrap();
    let base64 = shop.openssl(["base64", "-in", "x.der"]);
    let base64 = String::from_utf8(base64).unwrap();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{base64}-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn an_authority_goes_by_its_own_keys_days_and_revocations() {
    let shop = Workshop::new();
    let folder = shop.path("ca");
    Authority::init(&folder, &founding(Algorithm::EcdsaP256), now()).unwrap();
    let exists = Authority::init(&folder, &founding(Algorithm::EcdsaP256), now()).unwrap_err();
    assert!(matches!(exists, AuthorityError::Exists(_)), "{exists}");
    let missing = Authority::open(&shop.path("nowhere")).unwrap_err();
    assert!(matches!(missing, AuthorityError::Missing(_)), "{missing}");

    let mut authority = Authority::open(&folder).unwrap();
    let request = NewKey::generate(Algorithm::EcdsaP256).unwrap().certificate_request().unwrap();
    let key = |authority: &Authority, kind| clear(authority.key(kind).unwrap());
    let roots = key(&authority, CertificateKind::Root);
    let error = authority.issue(roots, &alice(), &request, now()).unwrap_err();
    assert!(matches!(error, AuthorityError::WrongKey(_)), "{error}");

    // A certificate ends with its issuer's, and after that there are none.
    let intermediate_ends = authority.certificates()[1].not_after;
    let late = intermediate_ends - time::Duration::days(10);
    let own = key(&authority, CertificateKind::Intermediate);
    let issued = authority.issue(own, &alice(), &request, late).unwrap();
    assert_eq!(issued.certificate.not_after, intermediate_ends);
    let own = key(&authority, CertificateKind::Intermediate);
    let error =
        authority.issue(own, &alice(), &request, intermediate_ends + time::Duration::days(1)).unwrap_err();
    assert!(matches!(error, AuthorityError::Ended(_)), "{error}");

    let (root, intermediate) =
        (authority.certificates()[0].serial.clone(), authority.certificates()[1].serial.clone());
    let mut revoke = |kind, which: &str| {
        let own = key(&authority, kind);
        authority.revoke(own, which, RevocationReason::Superseded, 365, now())
    };
    assert!(matches!(revoke(CertificateKind::Root, &root), Err(AuthorityError::Root)));
    revoke(CertificateKind::Root, &intermediate).unwrap();
    let again = revoke(CertificateKind::Root, &intermediate).unwrap_err();
    assert!(matches!(again, AuthorityError::AlreadyRevoked(_)), "{again}");
    let own = key(&authority, CertificateKind::Intermediate);
    let error = authority.issue(own, &alice(), &request, now()).unwrap_err();
    assert!(matches!(error, AuthorityError::IssuerRevoked), "{error}");

    use std::os::unix::fs::PermissionsExt;
    let path = authority.key_path(CertificateKind::Root);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(authority.key(CertificateKind::Root), Err(AuthorityError::Exposed(_))));
}

#[test]
fn an_intermediate_authority_that_was_certified_anew_goes_on_with_its_key_and_its_lists() {
    let days = |days| time::Duration::days(days);
    let shop = Workshop::new();
    let folder = shop.path("ca");
    let founded = now() - days(4 * 365);
    Authority::init(&folder, &founding(Algorithm::EcdsaP256), founded).unwrap();
    std::fs::copy(shop.path("ca/certs/intermediate_ca.crt"), shop.path("before.crt")).unwrap();
    let mut authority = Authority::open(&folder).unwrap();
    let key = |authority: &Authority, kind| clear(authority.key(kind).unwrap());
    let request = NewKey::generate(Algorithm::EcdsaP256).unwrap().certificate_request().unwrap();
    let issue = |authority: &mut Authority, days| {
        let own = key(authority, CertificateKind::Intermediate);
        let developer = Developer { days, ..alice() };
        authority.issue(own, &developer, &request, now()).unwrap()
    };
    let before = issue(&mut authority, 1000);
    let first = authority.certificates()[1].clone();
    assert_eq!(before.certificate.not_after, first.not_after, "no longer than its issuer");

    let wrong = key(&authority, CertificateKind::Intermediate);
    assert!(matches!(authority.renew(wrong, now()), Err(AuthorityError::WrongKey(_))));
    let own = key(&authority, CertificateKind::Root);
    let renewed = authority.renew(own, now()).unwrap();
    assert!(renewed.not_after > first.not_after + days(3 * 365) && renewed.serial != first.serial);
    assert_eq!((renewed.kind, &renewed.name), (CertificateKind::Intermediate, &first.name));
    let after = issue(&mut authority, 1000);
    assert!(after.certificate.not_after > first.not_after);
    let own = key(&authority, CertificateKind::Intermediate);
    authority.publish(CertificateKind::Intermediate, own, 30, now()).unwrap();
    let own = key(&authority, CertificateKind::Root);
    authority.publish(CertificateKind::Root, own, 30, now()).unwrap();

    let crls = ["ca/crl/root_ca.crl", "ca/crl/intermediate_ca.crl"];
    for certificate in ["before.crt", "ca/certs/intermediate_ca.crt"] {
        shop.openssl(["crl", "-in", crls[1], "-CAfile", certificate, "-noout", "-verify"]);
    }
    let holds = |chain: &str, intermediate: &str| {
        std::fs::write(shop.path("chain.crt"), chain).unwrap();
        let files = ["-CAfile", "ca/certs/root_ca.crt", "-untrusted", intermediate, "-x509_strict"];
        let lists = ["-CRLfile", crls[0], "-CRLfile", crls[1], "-crl_check_all", "chain.crt"];
        let mut command = Command::new("openssl");
        command.arg("verify").args(files).args(lists).current_dir(shop.path(""));
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // What was issued before holds by either certificate of the authority, and so does what is issued now.
    for chain in [&before.chain_pem, &after.chain_pem] {
        for intermediate in ["before.crt", "ca/certs/intermediate_ca.crt"] {
            let (held, told) = holds(chain, intermediate);
            assert!(held, "{intermediate}: {told}");
        }
    }
    let verify = |chain: &str| {
        let mut anchors = Anchors::default();
        anchors.add(&std::fs::read(shop.path("ca/certs/root_ca.crt")).unwrap()).unwrap();
        let mut revocations = Revocations::default();
        for crl in crls {
            revocations.add(&std::fs::read(shop.path(crl)).unwrap()).unwrap();
        }
        let chain = read_certificates(chain.as_bytes()).unwrap();
        let chain = chain.iter().map(|certificate| {
            let own =
                pkcs8::der::pem::encode_string("CERTIFICATE", pkcs8::LineEnding::LF, certificate.as_der());
            own.unwrap()
        });
        let block = mentat_manifest::Attestation {
            version: "1.0".into(),
            timestamp: now().format(&time::format_description::well_known::Rfc3339).unwrap(),
            signer: mentat_manifest::Signer { subject: "Alice".into(), issuer: "Example Agent CA".into() },
            algorithm: "ECDSA-P256".into(),
            signature: "AAAA".into(),
            certificate_chain: chain.collect(),
        };
        let options = Options { missing_crl: mentat_attestation::MissingCrl::Refuse, ..Options::default() };
        let verifier = Verifier::new(anchors, revocations, options);
        verifier.verify(MANIFEST, &block, &module(), SystemTime::now()).unwrap_err().code()
    };
    // The chains hold here as well: the signature, of which nothing was made, is looked at last.
    assert_eq!(
        (verify(&before.chain_pem), verify(&after.chain_pem)),
        ("signature_mismatch", "signature_mismatch")
    );
    let own = key(&authority, CertificateKind::Intermediate);
    let serial = before.certificate.serial.clone();
    authority.revoke(own, &serial, RevocationReason::Superseded, 30, now()).unwrap();
    assert_eq!(
        (verify(&before.chain_pem), verify(&after.chain_pem)),
        ("certificate_revoked", "signature_mismatch")
    );

    // No longer than the root, and not when that has ended.
    let root_ends = authority.certificates()[0].not_after;
    let own = key(&authority, CertificateKind::Root);
    let last = authority.renew(own, root_ends - days(100)).unwrap();
    assert_eq!(last.not_after, root_ends);
    let own = key(&authority, CertificateKind::Root);
    assert!(matches!(authority.renew(own, root_ends + days(1)), Err(AuthorityError::RootEnded(_))));
    let own = key(&authority, CertificateKind::Root);
    authority.revoke(own, &last.serial, RevocationReason::KeyCompromise, 365, now()).unwrap();
    let own = key(&authority, CertificateKind::Root);
    assert!(matches!(authority.renew(own, now()), Err(AuthorityError::IssuerRevoked)));
}

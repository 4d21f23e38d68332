//! Lists of revoked certificates, by `openssl`: what they take back, and what is not to be believed of them.

use std::time::Duration;

use mentat_attestation::{MissingCrl, Options, Rejection, Revocations, Signer, StaleCrl};
use mentat_manifest::ModuleDigest;

use crate::authority::{INTERMEDIATE, MANIFEST, MODULE, Order, ROOT, Usual, now};

fn verify(usual: &Usual, lists: &[&[u8]], options: Options) -> Result<Signer, Rejection> {
    let verifier = usual.verifier(lists, options);
    verifier.verify(MANIFEST, &usual.attest(), &ModuleDigest::of(MODULE), now())
}

fn strict() -> Options {
    Options { missing_crl: MissingCrl::Refuse, ..Options::default() }
}

/// So that a list lasts beyond the time of these tests.
const LASTING: &[&str] = &["-crldays", "3650"];

#[test]
fn a_revoked_signer_and_a_revoked_authority_are_refused() {
    let usual = Usual::new();
    let (workshop, root, intermediate) = (&usual.workshop, &usual.root, &usual.intermediate);
    let (of_root, of_intermediate) = (workshop.list(root, LASTING), workshop.list(intermediate, LASTING));
    verify(&usual, &[&of_root, &of_intermediate], strict()).unwrap();

    workshop.revoke(intermediate, &usual.signer);
    let revoked = workshop.list(intermediate, LASTING);
    let Err(Rejection::Revoked(place, serial)) = verify(&usual, &[&of_root, &revoked], Options::default())
    else {
        panic!("accepted")
    };
    assert_eq!((place.number, serial.is_empty()), (1, false));
    // The newest list decides, in whichever order they came; and a stale copy beside it hides nothing.
    for lists in [[&of_intermediate, &revoked], [&revoked, &of_intermediate]] {
        let refused = verify(&usual, &lists.map(Vec::as_slice), Options::default());
        assert_eq!(refused.unwrap_err().code(), "certificate_revoked");
    }

    let usual = Usual::new();
    usual.workshop.revoke(&usual.root, &usual.intermediate);
    let Err(Rejection::Revoked(place, _)) =
        verify(&usual, &[&usual.workshop.list(&usual.root, LASTING)], Options::default())
    else {
        panic!("accepted")
    };
    assert_eq!(place.number, 2);
}

#[test]
fn lists_are_read_as_pem_as_der_and_several_at_once() {
    let usual = Usual::new();
    let (of_root, of_intermediate) =
        (usual.workshop.list(&usual.root, LASTING), usual.workshop.list(&usual.intermediate, LASTING));
    verify(&usual, &[&[of_root.as_slice(), &of_intermediate].concat()], strict()).unwrap();
    std::fs::write(usual.workshop.path("list.pem"), of_root).unwrap();
    let der = usual.workshop.openssl(["crl", "-in", "list.pem", "-outform", "DER"]);
    verify(&usual, &[&der, &of_intermediate], strict()).unwrap();
}

#[test]
fn a_missing_list_is_refused_where_one_is_wanted() {
    let usual = Usual::new();
    let of_root = usual.workshop.list(&usual.root, LASTING);
    let of_intermediate = usual.workshop.list(&usual.intermediate, LASTING);
    verify(&usual, &[], Options::default()).unwrap();
    verify(&usual, &[&of_root], Options::default()).unwrap();
    for (lists, number) in [(vec![], 1), (vec![of_root.as_slice()], 1), (vec![of_intermediate.as_slice()], 2)]
    {
        let refused = verify(&usual, &lists, strict()).unwrap_err();
        assert!(
            matches!(&refused, Rejection::RevocationUnknown(place, _) if place.number == number),
            "{refused:?}"
        );
    }
}

#[test]
fn a_stale_list_is_refused_unless_the_operator_takes_it() {
    let usual = Usual::new();
    let hour = ["-crlhours", "1"];
    let list = usual.workshop.list(&usual.intermediate, &hour);
    let later = now() + Duration::from_secs(2 * 3600);
    let verify = |stale_crl| {
        let verifier = usual.verifier(&[&list], Options { stale_crl, ..Options::default() });
        verifier.verify(MANIFEST, &usual.attest(), &ModuleDigest::of(MODULE), later)
    };
    assert!(matches!(verify(StaleCrl::Refuse), Err(Rejection::RevocationStale(_))));
    // What was found holds to the last second, and is not made shorter by what is overdue beside it.
    let lasting = usual.workshop.list(&usual.intermediate, &["-crlhours", "3"]);
    let check = |lists: &[&[u8]], at| {
        let verifier = usual.verifier(lists, Options::default());
        verifier.verify(MANIFEST, &usual.attest(), &ModuleDigest::of(MODULE), at)
    };
    for (lists, at) in [(vec![list.as_slice()], now()), (vec![&list, &lasting], later)] {
        let until = check(&lists, at).unwrap().holds_until;
        assert!(until >= at);
        check(&lists, until).unwrap();
        let after = check(&lists, until + Duration::from_secs(1)).unwrap_err();
        assert!(matches!(after, Rejection::RevocationStale(_)), "{after:?}");
    }
    verify(StaleCrl::Accept).unwrap();
}

#[test]
fn a_list_about_a_part_is_refused_and_hides_nothing() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    workshop.list(&usual.intermediate, LASTING);
    let config = workshop.path("intermediate.cnf");
    let text = std::fs::read_to_string(&config).unwrap();
    for scope in [
        "fullname = URI:http://b.example/1",
        "fullname = URI:http://b.example/1\nonlyCA = TRUE",
        "fullname = URI:http://b.example/1\nonlyuser = TRUE",
        "onlyuser = TRUE",
    ] {
        for critical in ["critical, ", ""] {
            let part = format!("{text}issuingDistributionPoint = {critical}@idp\n[idp]\n{scope}\n");
            std::fs::write(&config, part).unwrap();
            let list = workshop.list(&usual.intermediate, LASTING);
            let refused = Revocations::default().add(&list).unwrap_err().to_string();
            assert!(refused.contains("get the list about all"), "{scope}: {refused}");
        }
    }
}

#[test]
fn what_any_list_in_force_takes_back_is_refused() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    workshop.list(&usual.intermediate, LASTING);
    let index = workshop.path("intermediate.index");
    let before = std::fs::read(&index).unwrap();
    workshop.revoke(&usual.intermediate, &usual.signer);
    let revoked = workshop.list(&usual.intermediate, LASTING);
    let brief = workshop.list(&usual.intermediate, &["-crlhours", "1"]);
    // The next one has forgotten it, and has a higher number.
    std::fs::write(&index, before).unwrap();
    let clean = workshop.list(&usual.intermediate, LASTING);
    for lists in [[&revoked, &clean], [&clean, &revoked]] {
        let refused = verify(&usual, &lists.map(Vec::as_slice), Options::default());
        assert_eq!(refused.unwrap_err().code(), "certificate_revoked");
    }
    // One that is overdue has been replaced.
    let verifier =
        usual.verifier(&[&brief, &clean], Options { stale_crl: StaleCrl::Accept, ..Options::default() });
    let later = now() + Duration::from_secs(2 * 3600);
    verifier.verify(MANIFEST, &usual.attest(), &ModuleDigest::of(MODULE), later).unwrap();
}

#[test]
fn a_list_that_is_still_to_come_neither_decides_nor_counts() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    let coming = ["-crl_lastupdate", "20390101000000Z", "-crl_nextupdate", "20391231000000Z"];
    let (clean, of_root) = (workshop.list(&usual.intermediate, LASTING), workshop.list(&usual.root, LASTING));
    let to_come = workshop.list(&usual.intermediate, &coming);
    for options in [Options::default(), strict(), Options { stale_crl: StaleCrl::Accept, ..strict() }] {
        let refused = verify(&usual, &[&of_root, &to_come], options.clone()).unwrap_err();
        assert!(
            matches!(&refused, Rejection::RevocationNotYetValid(place, _) if place.number == 1),
            "{refused:?}"
        );
        verify(&usual, &[&of_root, &to_come, &clean], options).unwrap();
    }
    workshop.revoke(&usual.intermediate, &usual.signer);
    let revoked = workshop.list(&usual.intermediate, LASTING);
    let refused = verify(&usual, &[&of_root, &to_come, &revoked], strict()).unwrap_err();
    assert_eq!(refused.code(), "certificate_revoked");
    // Another's clock may be ahead by the skew.
    let behind = now() - Duration::from_secs(30);
    let list = workshop.list(&usual.root, LASTING);
    let verifier = usual.verifier(&[&list], Options::default());
    verifier.verify(MANIFEST, &usual.attest(), &ModuleDigest::of(MODULE), behind).unwrap();
}

#[test]
fn a_list_that_its_issuer_did_not_sign_is_refused() {
    let (usual, imitated) = (Usual::new(), Usual::new());
    std::fs::write(usual.workshop.path("list.pem"), usual.workshop.list(&usual.intermediate, LASTING))
        .unwrap();
    let mut forged = usual.workshop.openssl(["crl", "-in", "list.pem", "-outform", "DER"]);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(verify(&usual, &[&forged], Options::default()), Err(Rejection::RevocationForged));
    // One by another key under the same name: where it is all there is, nobody can tell what the issuer has revoked.
    let of_another = imitated.workshop.list(&imitated.intermediate, LASTING);
    assert_eq!(verify(&usual, &[&of_another], Options::default()), Err(Rejection::RevocationForged));
}

#[test]
fn a_list_that_writes_its_issuers_name_otherwise_is_never_passed_over() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    // The authority's key under a name of the same words: in strings of another type, and with other capital letters.
    for (name, subject, mask) in [
        ("printable", "/O=Example/CN=Intermediate", "nombstr"),
        ("capital", "/O=EXAMPLE/CN=intermediate", "utf8only"),
        ("blank", "/O=Example/CN= Intermediate ", "utf8only"),
    ] {
        let config = format!("[req]\ndistinguished_name=dn\nprompt=no\nstring_mask={mask}\n[dn]\nCN=x\n");
        std::fs::write(workshop.path("masked.cnf"), config).unwrap();
        std::fs::copy(workshop.path("intermediate.key"), workshop.path(&format!("{name}.key"))).unwrap();
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        workshop.openssl([
            "req",
            "-new",
            "-x509",
            "-key",
            &key,
            "-config",
            "masked.cnf",
            "-subj",
            subject,
            "-out",
            &pem,
            "-addext",
            "subjectKeyIdentifier=hash",
        ]);
        let renamed = workshop.holder(name);
        let clean = workshop.list(&renamed, LASTING);
        workshop.revoke(&renamed, &usual.signer);
        let revoked = workshop.list(&renamed, LASTING);
        for missing_crl in [MissingCrl::Accept, MissingCrl::Refuse] {
            for list in [&clean, &revoked] {
                let own = workshop.list(&usual.intermediate, LASTING);
                let of_root = workshop.list(&usual.root, LASTING);
                for lists in [vec![list.as_slice()], vec![&own, &of_root, list]] {
                    let options = Options { missing_crl, ..Options::default() };
                    let refused = verify(&usual, &lists, options).unwrap_err();
                    let is_told = matches!(&refused, Rejection::RevocationMisnamed(place, issuer)
                        if place.number == 1 && issuer == "CN=Intermediate,O=Example");
                    assert!(is_told, "{name}: {refused:?}");
                }
            }
        }
    }
    // That of somebody else is about nobody here.
    let stranger = Usual::of(&Order::default());
    let order =
        Order { subject: "/O=Example/CN=Intermediate 2", extensions: INTERMEDIATE, ..Order::default() };
    let other = stranger.workshop.issue("other", Some(&stranger.root), &order);
    verify(&usual, &[&stranger.workshop.list(&other, LASTING)], Options::default()).unwrap();
}

#[test]
fn a_list_counts_that_calls_its_issuers_key_by_another_name() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    let order = |extensions| Order { subject: "/CN=Renamed", extensions, ..Order::default() };
    let hashed = format!("{ROOT}subjectKeyIdentifier=hash\n");
    let authority = workshop.issue("authority", Some(&usual.root), &order(&hashed));
    let signer = format!("{}authorityKeyIdentifier=keyid:always\n", crate::authority::SIGNER);
    let signer =
        workshop.issue("by-authority", Some(&authority), &Order { extensions: &signer, ..Order::default() });
    // The same key, which another tool computes the name of in its own way.
    std::fs::copy(workshop.path("authority.key"), workshop.path("renamed.key")).unwrap();
    let named = format!("{ROOT}subjectKeyIdentifier=00:11:22:33\n");
    let renamed = workshop.issue("renamed", Some(&usual.root), &order(&named));
    let attestation = workshop.attest(&signer, "ECDSA-P256", &[&signer, &authority]);
    let verify = |list: &[u8]| {
        let verifier = usual.verifier(&[list], Options::default());
        verifier.verify(MANIFEST, &attestation, &ModuleDigest::of(MODULE), now())
    };
    verify(&workshop.list(&renamed, LASTING)).unwrap();
    workshop.revoke(&renamed, &signer);
    assert_eq!(verify(&workshop.list(&renamed, LASTING)).unwrap_err().code(), "certificate_revoked");
}

#[test]
fn two_keys_of_one_authority_have_a_list_each() {
    let keyed = format!("{ROOT}subjectKeyIdentifier=hash\n");
    let usual = Usual::new();
    let workshop = &usual.workshop;
    let order = |extensions| Order { subject: "/CN=Twin", extensions, ..Order::default() };
    let old = workshop.issue("old", Some(&usual.root), &order(&keyed));
    let new = workshop.issue("new", Some(&usual.root), &order(&keyed));
    let signer = format!("{}authorityKeyIdentifier=keyid:always\n", crate::authority::SIGNER);
    let signer = workshop.issue("by-new", Some(&new), &Order { extensions: &signer, ..Order::default() });
    workshop.revoke(&new, &signer);
    let of_new = workshop.list(&new, LASTING);
    // Later than that of the new key.
    std::thread::sleep(Duration::from_millis(1100));
    let of_old = workshop.list(&old, LASTING);
    let attestation = workshop.attest(&signer, "ECDSA-P256", &[&signer, &new]);
    let verifier = usual.verifier(&[&of_new, &of_old], Options::default());
    let refused = verifier.verify(MANIFEST, &attestation, &ModuleDigest::of(MODULE), now()).unwrap_err();
    assert_eq!(refused.code(), "certificate_revoked");
}

#[test]
fn an_authority_that_may_not_sign_lists_has_none_that_counts() {
    for who in ["root", "intermediate"] {
        let workshop = crate::authority::Workshop::new();
        let unable = |extensions: &str| extensions.replace(",cRLSign", "");
        let of =
            |name, extensions: &str| if name == who { unable(extensions) } else { extensions.to_owned() };
        let (root_extensions, extensions) = (of("root", ROOT), of("intermediate", INTERMEDIATE));
        let root = workshop.issue(
            "root",
            None,
            &Order { subject: "/CN=Root", extensions: &root_extensions, ..Order::default() },
        );
        let intermediate = workshop.issue(
            "intermediate",
            Some(&root),
            &Order { subject: "/CN=Intermediate", extensions: &extensions, ..Order::default() },
        );
        let signer = workshop.issue("signer", Some(&intermediate), &Order::default());
        let usual = Usual { workshop, root, intermediate, signer };
        let issuer = if who == "root" { &usual.root } else { &usual.intermediate };
        let list = usual.workshop.list(issuer, LASTING);
        assert_eq!(verify(&usual, &[&list], Options::default()), Err(Rejection::RevocationForged), "{who}");
    }
}

#[test]
fn lists_that_cannot_be_evaluated_are_refused_when_they_are_loaded() {
    let usual = Usual::new();
    let list = usual.workshop.list(&usual.intermediate, LASTING);
    let weak = usual.workshop.list(&usual.intermediate, &["-crldays", "3650", "-md", "sha1"]);
    let refused = |bytes: &[u8]| Revocations::default().add(bytes).unwrap_err().to_string();
    assert!(refused(&weak).contains("SHA-1"), "{}", refused(&weak));
    assert!(refused(b"nothing").contains("X509 CRL"));
    assert!(refused(&list[..list.len() / 2]).contains("X509 CRL"));
    std::fs::write(usual.workshop.path("list.pem"), &list).unwrap();
    let der = usual.workshop.openssl(["crl", "-in", "list.pem", "-outform", "DER"]);
    assert!(refused(&der[..der.len() - 1]).contains("get it anew"));
    let trailing = [der.as_slice(), &[0]].concat();
    assert!(refused(&trailing).contains("get it anew"));

    let config = usual.workshop.path("intermediate.cnf");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}2.5.29.27 = critical,ASN1:INTEGER:1\n")).unwrap();
    let delta = usual.workshop.list(&usual.intermediate, LASTING);
    assert!(refused(&delta).contains("get the whole list"), "{}", refused(&delta));
    // Others of which only a part could be evaluated.
    for (extension, says) in [
        (
            "issuingDistributionPoint = critical, @idp\n[idp]\nindirectCRL = TRUE",
            "get the list of the issuer itself",
        ),
        (
            "issuingDistributionPoint = critical, @idp\n[idp]\nonlysomereasons = keyCompromise",
            "get the list about all",
        ),
        ("1.2.3.4.5 = critical, ASN1:NULL", "have it issued without"),
    ] {
        std::fs::write(&config, format!("{text}{extension}\n")).unwrap();
        let list = usual.workshop.list(&usual.intermediate, LASTING);
        assert!(refused(&list).contains(says), "{extension}: {}", refused(&list));
    }
    // With a number that is too long, and of the first version.
    std::fs::write(&config, &text).unwrap();
    let numbers = usual.workshop.path("intermediate.crlnumber");
    std::fs::write(&numbers, format!("7F{}\n", "00".repeat(20))).unwrap();
    let uncounted = usual.workshop.list(&usual.intermediate, LASTING);
    assert!(refused(&uncounted).contains("have the authority number its lists"), "{}", refused(&uncounted));
    std::fs::write(numbers, "01\n").unwrap();
    std::fs::write(
        &config,
        text.lines()
            .filter(|line| !line.starts_with("crlnumber"))
            .fold(String::new(), |all, line| all + line + "\n"),
    )
    .unwrap();
    let bare = [
        "ca",
        "-gencrl",
        "-config",
        "intermediate.cnf",
        "-keyfile",
        "intermediate.key",
        "-cert",
        "intermediate.pem",
    ];
    let first = usual.workshop.openssl([&bare, LASTING].concat());
    assert!(refused(&first).contains("have the authority issue version 2"), "{}", refused(&first));

    // More entries than are held, as a database of OpenSSL has them.
    std::fs::write(&config, text).unwrap();
    let rows: String = (0..100_001)
        .map(|serial| format!("R\t400101000000Z\t260101000000Z\t{serial:08X}\tunknown\t/CN=x\n"))
        .collect();
    std::fs::write(usual.workshop.path("intermediate.index"), rows).unwrap();
    let long = usual.workshop.list(&usual.intermediate, LASTING);
    assert!(refused(&long).contains("more than 100000"), "{}", refused(&long));
}

#[test]
fn a_list_whose_issuers_name_cannot_be_read_is_refused_when_it_is_loaded() {
    let usual = Usual::new();
    let workshop = &usual.workshop;
    // Cyrillic letters as two bytes each (`BMPString`), and a character that turns the text around.
    for (name, subject, mask) in [
        ("wide", "/O=\u{41f}\u{440}\u{438}\u{43c}\u{435}\u{440}", "default"),
        ("turned", "/O=a\u{202e}b", "utf8only"),
    ] {
        let config = format!("[req]\ndistinguished_name=dn\nprompt=no\nstring_mask={mask}\n[dn]\nCN=x\n");
        std::fs::write(workshop.path("masked.cnf"), config).unwrap();
        std::fs::copy(workshop.path("intermediate.key"), workshop.path(&format!("{name}.key"))).unwrap();
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        let certify = ["req", "-new", "-x509", "-utf8", "-key", &key, "-config", "masked.cnf", "-out", &pem];
        workshop
            .openssl([&certify[..], &["-subj", subject, "-addext", "subjectKeyIdentifier=hash"]].concat());
        let list = workshop.list(&workshop.holder(name), LASTING);
        let refused = Revocations::default().add(&list).unwrap_err().to_string();
        assert!(refused.contains("the name of its issuer"), "{name}: {refused}");
    }
}

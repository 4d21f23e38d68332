//! The operator's rules where no certificate is needed; signatures themselves are tested through a started server, with
//! certificates by `openssl`.

use mentat_manifest::Signer as SignerNames;

use super::*;

fn block() -> Attestation {
    Attestation {
        version: "1.0".into(),
        timestamp: "2026-06-01T12:00:00Z".into(),
        signer: SignerNames { subject: "CN=Dev".into(), issuer: "CN=Root".into() },
        algorithm: "Ed25519".into(),
        signature: "AAAA".into(),
        certificate_chain: Vec::new(),
    }
}

fn judge(rules: &AttestationRules, version: &str, attestation: Option<&Attestation>) -> Standing {
    judge_at(rules, version, attestation, SystemTime::now())
}

fn judge_at(
    rules: &AttestationRules,
    version: &str,
    attestation: Option<&Attestation>,
    now: SystemTime,
) -> Standing {
    let candidate = Candidate {
        tenant: "own",
        id: &"a.b".parse().unwrap(),
        version: &version.parse().unwrap(),
        manifest: "id: a.b",
        module: &ModuleDigest::of(b""),
        attestation,
    };
    Attestations::new(rules.clone(), Verifier::default()).judge(&candidate, now)
}

fn code(standing: &Standing) -> Option<&'static str> {
    standing.refusal().map(|refusal| refusal.code)
}

fn rules(mode: AttestationMode) -> AttestationRules {
    AttestationRules { mode, ..AttestationRules::default() }
}

#[test]
fn what_is_not_signed_is_refused_where_it_must_be_and_for_the_tenants_it_must_be() {
    assert_eq!(code(&judge(&rules(AttestationMode::Required), "1.0.0", None)), Some("unsigned"));
    for mode in [AttestationMode::Optional, AttestationMode::Off] {
        let standing = judge(&rules(mode), "1.0.0", None);
        assert_eq!((standing.verdict(), standing.trust()), (&Verdict::Accepted, Trust::Untrusted));
    }
    let mut single = rules(AttestationMode::Optional);
    single.tenants.insert("own".into(), AttestationMode::Required);
    assert_eq!(code(&judge(&single, "1.0.0", None)), Some("unsigned"));
    single.tenants = BTreeMap::from([("other".into(), AttestationMode::Required)]);
    assert_eq!(code(&judge(&single, "1.0.0", None)), None);
}

#[test]
fn before_the_date_what_is_not_signed_is_tolerated_and_judged_again_when_it_comes() {
    let from = SystemTime::now() + Duration::from_secs(10);
    let rules = AttestationRules { enforce_from: Some(from), ..rules(AttestationMode::Required) };
    let before = judge(&rules, "1.0.0", None);
    assert_eq!(before.verdict(), &Verdict::Tolerated(Concern::UnsignedUntil(from)));
    assert_eq!(before.until, from);
    assert_eq!(code(&judge_at(&rules, "1.0.0", None, from)), Some("unsigned"));
}

#[test]
fn without_roots_a_signature_is_worth_nothing_and_a_demand_for_one_is_not_met() {
    let standing = judge(&rules(AttestationMode::Optional), "1.0.0", Some(&block()));
    assert_eq!(
        (standing.verdict(), standing.trust()),
        (&Verdict::Tolerated(Concern::NoRoots), Trust::Untrusted)
    );
    assert_eq!(code(&judge(&rules(AttestationMode::Required), "1.0.0", Some(&block()))), Some("no_roots"));
}

#[test]
fn versions_below_the_highest_minimum_of_their_tenant_are_refused_in_every_mode() {
    let minimum = |version: &str, tenants: &[&str]| MinimumVersion {
        agent: "a.b".parse().unwrap(),
        version: version.parse().unwrap(),
        tenants: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
    };
    let minimum_versions =
        vec![minimum("1.2.0", &[]), minimum("1.3.0", &["own"]), minimum("2.0.0", &["other"])];
    let rules = AttestationRules { minimum_versions, ..rules(AttestationMode::Off) };
    for (version, refused) in [("1.2.9", true), ("1.3.0-rc.1", true), ("1.3.0", false), ("10.0.0", false)] {
        let expected = refused.then_some("version_below_minimum");
        assert_eq!(code(&judge(&rules, version, None)), expected, "{version}");
    }
}

#[test]
fn what_was_found_is_current_until_something_changes() {
    let attestations = Attestations::new(AttestationRules::default(), Verifier::default());
    let candidate = Candidate {
        tenant: "own",
        id: &"a.b".parse().unwrap(),
        version: &"1.0.0".parse().unwrap(),
        manifest: "",
        module: &ModuleDigest::of(b""),
        attestation: None,
    };
    let now = SystemTime::now();
    assert!(!attestations.is_current(&Standing::unknown(), now));
    let standing = attestations.judge(&candidate, now);
    assert!(attestations.is_current(&standing, now));
    assert!(!attestations.is_current(&standing, now + RECHECK_UNSIGNED_EVERY));
    attestations.replace(Verifier::default());
    assert!(!attestations.is_current(&standing, now));
    assert!(attestations.is_current(&attestations.judge(&candidate, now), now));
}

#[test]
fn addresses_are_compared_whole_or_by_their_domain() {
    for (wanted, email, fits) in [
        ("dev@example.com", "dev@example.com", true),
        ("dev@example.com", "dev@EXAMPLE.com", true),
        ("dev@example.com", "Dev@example.com", false),
        ("*@example.com", "any.one@example.com", true),
        ("*@example.com", "dev@evil-example.com", false),
        ("*@example.com", "dev@sub.example.com", false),
        ("*@example.com", "\"x@example.com\"@evil.com", false),
        ("example.com", "dev@example.com", false),
    ] {
        assert_eq!(is_address(wanted, email), fits, "{wanted} {email}");
    }
}

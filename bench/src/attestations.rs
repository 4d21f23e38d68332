//! What an attestation costs where an agent is loaded: a statement by ECDSA on P-256, by a signer under an intermediate under
//! a root, with the intermediate's revocation list. The floor is the signatures in it, verified by the same library.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mentat_attestation::{Anchors, Options, Revocations, Statement, Verifier};
use mentat_manifest::{Attestation, ModuleDigest, Signer};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    RevokedCertParams, SanType, SerialNumber, SigningKey as _, date_time_ymd,
};
use webpki::RawPublicKeyEntity;
use webpki::ring::ECDSA_P256_SHA256;

use crate::figures::{Row, rows};
use crate::measure::{Plan, Subject};

/// What verifying one may cost.
const LIMIT: Duration = Duration::from_millis(1);
/// Signatures in it: the statement's, the signer's certificate's, the intermediate's, and the list's.
const SIGNATURES: u32 = 4;
/// Certificates that the list revokes.
const REVOKED: u64 = 1_000;

const MANIFEST: &str = r#"
id: team.agent-0
version: 2.1.0
runtime: wasm
module: agent.wasm
wasm:
  fuel: 1000000000
  memory: { maximum: 64 }
  capabilities: ["filesystem:readwrite:/", "network:*:*", "env:KEY_2", "env:OTHER"]
"#;

fn authority(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// A list of certificates that were never issued.
fn list() -> CertificateRevocationListParams {
    let entry = |serial| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(4000, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: (1..=REVOKED).map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

pub(crate) fn attestations(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let root = CertifiedIssuer::self_signed(authority("Root", 1), KeyPair::generate()?)?;
    let intermediate = CertifiedIssuer::signed_by(authority("Intermediate", 0), KeyPair::generate()?, &root)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Dev");
    params.subject_alt_names = vec![SanType::Rfc822Name("dev@example.com".try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    params.use_authority_key_identifier_extension = true;
    let signer = params.signed_by(&key, &intermediate)?;

    let (mut anchors, mut revocations) = (Anchors::default(), Revocations::default());
    anchors.add(root.der())?;
    revocations.add(list().signed_by(&intermediate)?.der())?;
    let verifier = Verifier::new(anchors, revocations, Options::default());
    let module = ModuleDigest::of(b"module");
    let statement = Statement::new(MANIFEST, &module)?;
    let signature = key.sign(statement.canonical())?;
    let attestation = Attestation {
        version: "1.0".into(),
        timestamp: "2026-06-01T12:00:00Z".into(),
        signer: Signer { subject: "CN=Dev".into(), issuer: "CN=Intermediate".into() },
        algorithm: "ECDSA-P256".into(),
        signature: STANDARD.encode(&signature),
        certificate_chain: vec![signer.pem(), intermediate.pem()],
    };
    let now = SystemTime::now();
    verifier.verify(MANIFEST, &attestation, &module, now).context("the attestation does not hold")?;

    let spki = key.subject_public_key_info().into();
    let raw = RawPublicKeyEntity::try_from(&spki).context("the key is none")?;
    let subjects = vec![
        Subject::new(format!("{SIGNATURES} signatures on P-256"), |count| {
            for _ in 0..count {
                for _ in 0..SIGNATURES {
                    raw.verify_signature(
                        ECDSA_P256_SHA256,
                        black_box(statement.canonical()),
                        black_box(&signature),
                    )?;
                }
            }
            Ok(())
        }),
        Subject::new("an attestation, with 3 certificates and a list of 1,000 revoked", |count| {
            for _ in 0..count {
                black_box(verifier.verify(black_box(MANIFEST), black_box(&attestation), &module, now)?);
            }
            Ok(())
        })
        .at_most(LIMIT),
        Subject::new("its statement alone", |count| {
            for _ in 0..count {
                black_box(Statement::new(black_box(MANIFEST), &module)?);
            }
            Ok(())
        }),
    ];
    Ok(rows(&plan.measure(subjects)?))
}

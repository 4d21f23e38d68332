//! Certificates, chains of them and revocation lists: whatever the bytes are, they are refused or read within bounds, and
//! nobody becomes a signer by them who has not signed.

use std::time::SystemTime;

use mentat_attestation::{Anchors, Certificate, Options, Revocations, Verifier};
use mentat_manifest::{Attestation, ModuleDigest, Signer};

const MANIFEST: &str = "id: a.b\nversion: 1.0.0\n";

/// Reads the bytes as a certificate, as roots and as revocation lists, and as a chain where they are PEM; trusts all of it,
/// and verifies a signature that nobody made.
pub fn run(bytes: &[u8]) {
    let (mut anchors, mut revocations) = (Anchors::default(), Revocations::default());
    for error in [anchors.add(bytes).err(), revocations.add(bytes).err()].into_iter().flatten() {
        super::check_text(&error.to_string(), 64 << 10);
    }
    let text = String::from_utf8_lossy(bytes);
    let signer = match Certificate::from_der(bytes).or_else(|_| Certificate::from_pem(&text)) {
        Ok(certificate) => {
            super::check_text(&certificate.subject(), 64 << 10);
            super::check_text(&certificate.issuer(), 64 << 10);
            super::check_text(certificate.email().unwrap_or_default(), 256);
            Signer { subject: certificate.subject(), issuer: certificate.issuer() }
        }
        Err(fault) => {
            super::check_text(&fault.to_string(), 256);
            Signer { subject: "CN=a".into(), issuer: "CN=b".into() }
        }
    };
    // A chain, each certificate with its end.
    let chain = text.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect();
    let verifier = Verifier::new(anchors, revocations, Options::default());
    for algorithm in mentat_attestation::Algorithm::ALL {
        let attestation = Attestation {
            version: "1.0".into(),
            timestamp: "2026-06-01T12:00:00Z".into(),
            signer: signer.clone(),
            algorithm: algorithm.name().into(),
            signature: "MAYCAQECAQE=".into(),
            certificate_chain: Vec::clone(&chain),
        };
        let module = ModuleDigest::of(b"module");
        match verifier.verify(MANIFEST, &attestation, &module, SystemTime::UNIX_EPOCH) {
            Ok(signer) => panic!("signed by {signer:?}, who has signed nothing"),
            Err(rejection) => super::check_text(&rejection.to_string(), 64 << 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
        ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
        SerialNumber, date_time_ymd,
    };

    use super::*;

    /// A signer's certificate, its authority's, and a list of what that revoked.
    fn seeds() -> Vec<Vec<u8>> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();

        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Dev");
        params.subject_alt_names = vec![SanType::Rfc822Name("dev@example.com".try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.use_authority_key_identifier_extension = true;
        let signer = params.signed_by(&KeyPair::generate().unwrap(), &root).unwrap();

        let entry = RevokedCertParams {
            serial_number: SerialNumber::from(4711_u64),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2036, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![entry],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&root).unwrap();
        let chain = format!("{}{}", signer.pem(), root.pem());
        vec![
            root.der().to_vec(),
            signer.der().to_vec(),
            list.der().to_vec(),
            chain.into_bytes(),
            list.pem().unwrap().into_bytes(),
        ]
    }

    #[test]
    fn certificates_and_lists_and_their_neighbours_hold() {
        let seeds = seeds();
        for (seed, what) in seeds.iter().take(3).zip(["root", "signer", "list"]) {
            assert_eq!(Certificate::from_der(seed).is_ok(), what != "list");
            assert_eq!(Anchors::default().add(seed).is_ok(), what == "root");
            assert_eq!(Revocations::default().add(seed).is_ok(), what == "list");
        }
        for bytes in crate::variations(&seeds, 1000) {
            run(&bytes);
        }
    }
}

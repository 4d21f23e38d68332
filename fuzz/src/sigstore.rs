//! Envelopes and bundles: whatever the bytes are, nothing is taken for endorsed by a key that has endorsed nothing.

use mentat_attestation::PublicKey;
use mentat_attestation::sigstore::{verify_bundle, verify_simple_signing};
use mentat_manifest::ModuleDigest;

/// Somebody's public key on P-256, the private part of which is gone.
const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n\
    6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n\
    -----END PUBLIC KEY-----\n";
const MODULE: &[u8] = b"module";

/// Verifies the bytes as a bundle, as a payload, and as a key.
pub fn run(bytes: &[u8]) {
    let key = PublicKey::read(KEY).expect("the key is one");
    match verify_bundle(bytes, &key, MODULE) {
        Ok(endorsement) => panic!("endorsed out of nothing: {endorsement:?}"),
        Err(error) => super::check_text(&error.to_string(), 4 << 10),
    }
    let signature = String::from_utf8_lossy(bytes);
    for text in ["MAYCAQECAQE=", &signature] {
        let endorsed = verify_simple_signing(bytes, text, &key, &ModuleDigest::of(MODULE));
        super::check_text(&endorsed.expect_err("nothing was signed").to_string(), 4 << 10);
    }
    if let Err(fault) = PublicKey::read(bytes) {
        super::check_text(&fault.to_string(), 4 << 10);
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn bundles_and_their_neighbours_hold() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let digest = ModuleDigest::of(MODULE);
        let statement = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{}"}}}}],"predicateType":"x"}}"#,
            digest.hex()
        );
        let envelope = format!(
            r#"{{"payload":"{}","payloadType":"application/vnd.in-toto+json","signatures":[{{"sig":"MAYCAQECAQE="}}]}}"#,
            encode(&statement)
        );
        let simple = format!(
            r#"{{"critical":{{"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}}}}"#
        );
        let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let seeds = [
            format!(r#"{{"mediaType":"{media_type}","dsseEnvelope":{envelope}}}"#),
            format!(
                r#"{{"mediaType":"{media_type}","messageSignature":{{"messageDigest":{{"algorithm":"SHA2_256","digest":"{}"}},"signature":"MAYCAQECAQE="}}}}"#,
                encode("x")
            ),
            r#"{"base64Signature":"MAYCAQECAQE="}"#.to_owned(),
            envelope,
            simple,
            String::from_utf8(KEY.to_vec()).unwrap(),
        ]
        .map(String::into_bytes);
        for bytes in crate::variations(&seeds, 500) {
            run(&bytes);
        }
    }
}
